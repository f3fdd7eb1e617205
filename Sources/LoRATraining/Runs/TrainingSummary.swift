internal import Foundation

/// What a finished run learned, and at what cost.
public struct TrainingSummary: Sendable {
    public let adapterPath: String
    public let adapterBytes: Int
    public let steps: Int
    /// Steps done when the adapter was as it is written: fewer than `steps` when an earlier one validated better.
    public let keptStep: Int
    /// Tokens of all examples trained on, counted each time.
    public let tokens: Int
    public let supervisedTokens: Int
    /// Spent in steps.
    public let seconds: Double
    public let peakResidentBytes: Int
    /// Of each step, per supervised token.
    public let losses: [Double]
    /// Of the adapter as it is written; nil without validation data.
    public let validationLoss: Double?
    /// The lowest that validation met; nil without validation data.
    public let bestValidationLoss: Double?

    public var tokensPerSecond: Double { Double(tokens) / max(seconds, 1e-9) }
}

/// How a run ended.
public enum TrainingOutcome: Sendable {
    case finished(TrainingSummary)
    /// The user wanted to end: a checkpoint is in the directory `checkpoints`.
    case interrupted(checkpoints: String, step: Int)
}

extension TrainingRun {
    /// The most memory that the process has had resident, the map included. `getrusage` counts in what the parent had
    /// when it started the process, so it only stands in where /proc does not tell.
    public static var peakResidentBytes: Int {
        let line = FileManager.default.contents(atPath: "/proc/self/status").flatMap { data in
            String(decoding: data, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        }
        let words = line?.split(whereSeparator: \.isWhitespace) ?? []
        if words.count > 1, let kilobytes = Int(words[1]) { return kilobytes * 1024 }
        var usage = rusage()
        getrusage(Int32(RUSAGE_SELF.rawValue), &usage)
        return usage.ru_maxrss * 1024
    }
}
