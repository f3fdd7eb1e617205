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

    fileprivate var isBound: Bool { minimum != nil || maximum != nil }

    static func read(_ path: String) throws -> [Threshold] {
        try JSONDecoder().decode([Threshold].self, from: Data(contentsOf: URL(fileURLWithPath: path)))
    }

    /// A threshold with what was measured.
    struct Verdict: Encodable {
        let threshold: Threshold
        /// Nil when it was not measured.
        let value: Double?
        var holds: Bool {
            guard threshold.isBound else { return true }
            guard let value else { return false }
            return value >= threshold.minimum ?? -.infinity && value <= threshold.maximum ?? .infinity
        }

        private enum CodingKeys: CodingKey {
            case threshold, value, holds
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(threshold, forKey: .threshold)
            try container.encode(value, forKey: .value)
            try container.encode(holds, forKey: .holds)
        }
    }

    func verdict(_ results: [String: Result]) -> Verdict {
        let result = results[workload]
        guard let relativeTo else { return Verdict(threshold: self, value: result?[figure]) }
        let value = results[relativeTo].flatMap { other in result?.ratio(figure, to: other) }
        return Verdict(threshold: self, value: value)
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
