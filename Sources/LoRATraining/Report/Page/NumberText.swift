internal import Foundation

/// Numbers as a report shows them.
enum NumberText {
    /// Three significant digits, with an exponent where that is shorter to read: 0.0123, 12.3, 1,234, 1.2e-05.
    static func short(_ value: Double) -> String {
        guard value.isFinite else { return "–" }
        if value == 0 { return "0" }
        switch abs(value) {
        case ..<1e-4, 1e15...: return String(format: "%.2g", value)
        case ..<1000: return trimmed(String(format: "%.\(max(0, 2 - exponent(value)))f", value))
        default: return grouped(Int(value.rounded()))
        }
    }

    /// Thousands apart: 1,234,567.
    static func grouped(_ value: Int) -> String {
        var digits = String(value.magnitude)[...]
        var groups: [Substring] = []
        while digits.count > 3 {
            groups.insert(digits.suffix(3), at: 0)
            digits = digits.dropLast(3)
        }
        return (value < 0 ? "-" : "") + ([digits] + groups).joined(separator: ",")
    }

    static func bytes(_ value: Double) -> String {
        value < 1e9 ? short(value / 1e6) + " MB" : String(format: "%.2f GB", value / 1e9)
    }

    /// 12 s, 3 m 05 s, 1 h 02 m.
    static func duration(_ seconds: Double) -> String {
        let whole = Int(seconds.rounded())
        if whole < 60 { return "\(whole) s" }
        if whole < 3600 { return String(format: "%d m %02d s", whole / 60, whole % 60) }
        return String(format: "%d h %02d m", whole / 3600, whole % 3600 / 60)
    }

    private static func exponent(_ value: Double) -> Int { Int(log10(abs(value)).rounded(.down)) }

    private static func trimmed(_ text: String) -> String {
        guard text.contains(".") else { return text }
        let digits = text.reversed().drop { $0 == "0" }
        return String((digits.first == "." ? digits.dropFirst() : digits).reversed())
    }
}
