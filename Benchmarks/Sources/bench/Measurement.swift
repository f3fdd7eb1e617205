import Foundation

/// What a worker reports.
struct Measurement: Codable {
    /// Seconds of one optimizer step, and of the parts of it.
    struct Step: Codable {
        /// All tokens of the examples; there is no padding.
        let tokens: Int
        let seconds: Double
        let forward: Double
        let loss: Double
        let backward: Double

        /// Packing, clipping and AdamW: what the phases do not cover.
        var optimizer: Double { seconds - forward - loss - backward }
        var tokensPerSecond: Double { Double(tokens) / seconds }
    }

    let workload: String
    /// The library that multiplies matrices.
    let engine: String
    let threads: Int
    /// Whether the tape keeps block inputs only.
    let recomputes: Bool
    /// The first one warms up.
    let steps: [Step]
    /// Seconds that reading and encoding the rows of one step took; nil for random tokens.
    let dataSeconds: Double?
    /// Since the process started.
    let secondsToFirstStep: Double
    let secondsToFirstStepEnd: Double
    /// The map of the base included.
    let peakResidentBytes: Int
    /// Of the floor. Nil for rows: those that begin alike share the rows of that prefix and nothing is computed after
    /// the last supervised token, so there are tokens that cost nothing.
    let gigaflopsPerToken: Double?

    private var bySpeed: [Step] { steps.dropFirst().sorted { $0.tokensPerSecond < $1.tokensPerSecond } }
    /// The slower of the two in the middle where their number is even.
    var medianStep: Step? {
        let sorted = bySpeed
        return sorted.isEmpty ? nil : sorted[(sorted.count - 1) / 2]
    }
    var fastestStep: Step? { bySpeed.last }
}

/// A measurement with the ceilings measured before and after it.
struct Run: Codable {
    let measurement: Measurement
    let before: Ceiling
    let after: Ceiling

    var ceiling: Double { (before.rowMajor + after.rowMajor) / 2 }
    var blockedCeiling: Double { (before.blocked + after.blocked) / 2 }
}

/// A number that a run has, by the name that reports and thresholds use.
enum Figure: String, Codable, CaseIterable {
    case tokensPerSecond, fastestTokensPerSecond, gigaflopsPerSecond, ceiling, blockedCeiling, ceilingDrift
    case ofCeiling, ofBlockedCeiling, stepSeconds, forwardSeconds, lossSeconds, backwardSeconds, optimizerSeconds,
        dataSeconds
    case peakMegabytes, secondsToFirstStep, secondsToFirstStepEnd

    /// Nil where the workload has no such figure.
    func value(_ run: Run) -> Double? {
        let measurement = run.measurement
        guard let step = measurement.medianStep else { return nil }
        let performed = measurement.gigaflopsPerToken.map { $0 * step.tokensPerSecond }
        return switch self {
        case .tokensPerSecond: step.tokensPerSecond
        case .fastestTokensPerSecond: measurement.fastestStep?.tokensPerSecond
        case .gigaflopsPerSecond: performed
        case .ceiling: run.ceiling
        case .blockedCeiling: run.blockedCeiling
        case .ceilingDrift: abs(run.after.rowMajor / run.before.rowMajor - 1)
        case .ofCeiling: performed.map { $0 / run.ceiling }
        case .ofBlockedCeiling: performed.map { $0 / run.blockedCeiling }
        case .stepSeconds: step.seconds
        case .forwardSeconds: step.forward
        case .lossSeconds: step.loss
        case .backwardSeconds: step.backward
        case .optimizerSeconds: step.optimizer
        case .dataSeconds: measurement.dataSeconds
        case .peakMegabytes: Double(measurement.peakResidentBytes) / 1e6
        case .secondsToFirstStep: measurement.secondsToFirstStep
        case .secondsToFirstStepEnd: measurement.secondsToFirstStepEnd
        }
    }
}

/// All runs of one workload, one in each round.
struct Result: Encodable {
    let workload: String
    private(set) var runs: [Run] = []

    init(workload: String) { self.workload = workload }

    mutating func add(_ run: Run) { runs.append(run) }

    var recomputes: Bool { runs.contains { $0.measurement.recomputes } }

    /// The median over the runs.
    subscript(figure: Figure) -> Double? { median(runs.compactMap(figure.value)) }

    /// The median over the rounds of this workload's figure divided by that of `other` in the same round.
    func ratio(_ figure: Figure, to other: Result) -> Double? {
        median(
            zip(runs, other.runs).compactMap { mine, theirs in
                figure.value(mine).flatMap { mine in figure.value(theirs).map { mine / $0 } }
            })
    }

    private enum CodingKeys: CodingKey {
        case workload, medians, runs
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(workload, forKey: .workload)
        let medians = Figure.allCases.compactMap { figure in self[figure].map { (figure.rawValue, $0) } }
        try container.encode(Dictionary(uniqueKeysWithValues: medians), forKey: .medians)
        try container.encode(runs, forKey: .runs)
    }
}

func median(_ values: [Double]) -> Double? {
    let sorted = values.sorted()
    let (lower, upper) = ((sorted.count - 1) / 2, sorted.count / 2)
    return sorted.isEmpty ? nil : (sorted[lower] + sorted[upper]) / 2
}

func format(_ value: Double?, digits: Int) -> String {
    value.map { String(format: "%.\(digits)f", $0) } ?? "-"
}

func percent(_ value: Double?) -> String {
    value.map { String(format: "%.1f%%", 100 * $0) } ?? "-"
}
