import Foundation

/// A bound on a figure, from thresholds.json; without a bound, a figure to be told.
struct Threshold: Codable {
    let workload: String
    let figure: Figure
    /// The bound is on the ratio to this workload's figure.
    let relativeTo: String?
    let minimum: Double?
    let maximum: Double?
    /// Where the bound comes from.
    let reason: String

    /// Those that it needs. A machine may have others: bf16 is measured where the CPU multiplies it.
    var workloads: Set<String> { Set([workload, relativeTo].compactMap(\.self)) }

    static func read(_ path: String) throws -> [Threshold] {
        try JSONDecoder().decode([Threshold].self, from: Data(contentsOf: URL(fileURLWithPath: path)))
    }

    /// A threshold with what was measured.
    struct Verdict: Encodable {
        let threshold: Threshold
        /// Nil when it was not measured.
        let value: Double?
        let holds: Bool
    }

    func verdict(_ outcomes: [String: Outcome]) -> Verdict {
        let outcome = outcomes[workload]
        let value =
            if let relativeTo {
                outcomes[relativeTo].flatMap { outcome?.ratio(figure, to: $0) }
            } else {
                outcome?[figure]
            }
        return Verdict(threshold: self, value: value, holds: !isBound || value.map(isMet) ?? false)
    }

    fileprivate var isBound: Bool { minimum != nil || maximum != nil }

    private func isMet(_ value: Double) -> Bool {
        value >= minimum ?? -.infinity && value <= maximum ?? .infinity
    }
}

extension Threshold.Verdict: CustomStringConvertible {
    var description: String {
        let bounds = [
            threshold.minimum.map { "at least \(format($0, digits: 2))" },
            threshold.maximum.map { "at most \(format($0, digits: 2))" },
        ]
        let ratio = threshold.relativeTo.map { " / \($0)" } ?? ""
        let measured = value.map { format($0, digits: 3) } ?? "not measured"
        let word = !threshold.isBound ? "     " : holds ? "holds" : "FAILS"
        let parts =
            ["\(threshold.workload)\(ratio), \(threshold.figure.rawValue): \(measured)"] + bounds.compactMap(\.self)
        return "\(word)  \(parts.joined(separator: ", ")) (\(threshold.reason))"
    }
}
