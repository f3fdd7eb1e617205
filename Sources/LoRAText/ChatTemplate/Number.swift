/// A Python number; booleans count as 0 and 1.
enum Number: Equatable {
    case int(Int)
    case float(Double)

    init?(_ value: Value) {
        switch value {
        case .int(let int): self = .int(int)
        case .bool(let bool): self = .int(bool ? 1 : 0)
        case .float(let float): self = .float(float)
        default: return nil
        }
    }

    var double: Double {
        switch self {
        case .int(let int): Double(int)
        case .float(let float): float
        }
    }

    static func == (left: Number, right: Number) -> Bool { left.order(right) == 0 }

    /// -1, 0 or 1, exact between integers and floats; nothing with NaN.
    func order(_ other: Number) -> Int? {
        switch (self, other) {
        case (.int(let left), .int(let right)): left < right ? -1 : left == right ? 0 : 1
        case (.float(let left), .float(let right)):
            left < right ? -1 : left > right ? 1 : left == right ? 0 : nil
        case (.int(let left), .float(let right)): Number.order(left, right)
        case (.float(let left), .int(let right)): Number.order(right, left).map { -$0 }
        }
    }

    private static func order(_ left: Int, _ right: Double) -> Int? {
        if right.isNaN { return nil }
        if right >= 0x1p63 { return -1 }
        if right < -0x1p63 { return 1 }
        let whole = Int(right.rounded(.towardZero))
        if left != whole { return left < whole ? -1 : 1 }
        let fraction = right - right.rounded(.towardZero)
        return fraction > 0 ? -1 : fraction < 0 ? 1 : 0
    }

    /// `repr` of a float: the shortest digits that read back the same, with an exponent below 1e-4 and from 1e16 on.
    static func description(of value: Double) -> String {
        if value.isNaN { return "nan" }
        if value.isInfinite { return value < 0 ? "-inf" : "inf" }
        let sign = value.sign == .minus ? "-" : ""
        if value == 0 { return sign + "0.0" }
        var (digits, exponent) = decimalDigits(of: value.magnitude)
        if exponent < -4 || exponent >= 16 {
            let rest = digits.dropFirst()
            let magnitude = abs(exponent) < 10 ? "0\(abs(exponent))" : "\(abs(exponent))"
            return "\(sign)\(digits.prefix(1))\(rest.isEmpty ? "" : ".\(rest)")e\(exponent < 0 ? "-" : "+")\(magnitude)"
        }
        if exponent < 0 { return sign + "0." + String(repeating: "0", count: -exponent - 1) + digits }
        if digits.count <= exponent + 1 {
            digits += String(repeating: "0", count: exponent + 1 - digits.count) + "0"
        }
        let point = digits.index(digits.startIndex, offsetBy: exponent + 1)
        return "\(sign)\(digits[..<point]).\(digits[point...])"
    }

    /// Shortest significant digits, without zeros at either end, and the power of ten of the first.
    private static func decimalDigits(of value: Double) -> (digits: String, exponent: Int) {
        let parts = value.description.split(separator: "e")
        let mantissa = parts[0].split(separator: ".", omittingEmptySubsequences: false)
        var digits = String(mantissa[0]) + (mantissa.count > 1 ? String(mantissa[1]) : "")
        var exponent = mantissa[0].count - 1 + (parts.count > 1 ? Int(parts[1]) ?? 0 : 0)
        while digits.hasPrefix("0") && digits.count > 1 {
            digits.removeFirst()
            exponent -= 1
        }
        while digits.hasSuffix("0") && digits.count > 1 { digits.removeLast() }
        return (digits, exponent)
    }
}
