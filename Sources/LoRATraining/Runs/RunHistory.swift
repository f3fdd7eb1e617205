public import LoRAFormats
public import OrderedCollections

/// What a run keeps of one step.
public struct StepRecord: Sendable {
    public let report: StepReport
    /// Times through the data after the step, such as 1.25.
    public let epoch: Double
    /// Norm of the gradients before clipping, of each block of the base.
    public let blockGradientNorms: [Double]
    /// Of this step alone.
    public let seconds: Double
    /// The most memory that the process has had resident so far.
    public let peakResidentBytes: Int

    public var tokensPerSecond: Double { Double(report.tokens) / max(seconds, 1e-9) }
}

/// What a run keeps of one validation.
public struct EvaluationRecord: Sendable {
    /// Steps done before it.
    public let step: Int
    /// What validation measures: the mean loss per supervised token.
    public let loss: Double
    /// Whether its loss is lower than that of all before.
    public let isBest: Bool
    public let seconds: Double
    /// What else the objective measures, by its names in the log.
    public let metrics: OrderedDictionary<String, Double>
}

/// What happens in a run, in its order.
public enum RunEvent: Sendable {
    case step(StepRecord)
    case evaluation(EvaluationRecord)
}

/// Something that keeps what happens in a run: a log, event files, a report, a progress bar.
public protocol RunRecorder: AnyObject {
    /// Called once before anything else, with all that happened before this process went on with the run; with nothing
    /// in a new run. What was recorded after it by a process that was killed happens again.
    func begin(_ history: [RunEvent]) throws
    func record(_ event: RunEvent) throws
    /// Called when the adapter is written; the setup's adapter holds the values that were kept.
    func finish(_ summary: TrainingSummary) throws
}

extension RunRecorder {
    public func begin(_ history: [RunEvent]) throws {}
    public func finish(_ summary: TrainingSummary) throws {}
}

extension RunEvent {
    /// A line of `run.jsonl`, without its end.
    public var json: JSONValue {
        switch self {
        case .step(let record):
            var line: OrderedDictionary<String, JSONValue> = [
                "step": .integer(Int64(record.report.step)),
                "epoch": .number(record.epoch),
                "loss": .number(record.report.loss),
                "grad_norm": .number(record.report.gradientNorm),
                "learning_rate": .number(record.report.learningRate),
                "tokens": .integer(Int64(record.report.tokens)),
                "supervised_tokens": .integer(Int64(record.report.supervisedTokens)),
                "tokens_per_second": .number(record.tokensPerSecond),
                "peak_rss_bytes": .integer(Int64(record.peakResidentBytes)),
                "seconds": .number(record.seconds),
                "block_grad_norms": .array(record.blockGradientNorms.map { .number($0) }),
            ]
            Self.add(record.report.outcome.metrics, to: &line)
            return .object(line)
        case .evaluation(let record):
            var line: OrderedDictionary<String, JSONValue> = [
                "step": .integer(Int64(record.step)),
                "valid_loss": .number(record.loss),
                "best": .bool(record.isBest),
                "seconds": .number(record.seconds),
            ]
            Self.add(record.metrics, to: &line)
            return .object(line)
        }
    }

    /// Metrics stand under one key, so that they can be told from the rest when a line is read.
    private static func add(
        _ metrics: OrderedDictionary<String, Double>, to line: inout OrderedDictionary<String, JSONValue>
    ) {
        if !metrics.isEmpty { line["metrics"] = .object(metrics.mapValues { .number($0) }) }
    }

    /// Reads what `json` writes.
    /// - Throws: `FormatError` that names what is missing.
    init(json: JSONValue) throws {
        func number(_ key: String) throws -> Double {
            guard let value = json[key]?.doubleValue else { throw FormatError("\(key) is missing or no number") }
            return value
        }
        func integer(_ key: String) throws -> Int {
            guard let value = json[key]?.intValue else { throw FormatError("\(key) is missing or no integer") }
            return value
        }
        let metrics = (json["metrics"]?.objectValue ?? [:]).compactMapValues(\.doubleValue)
        if json["valid_loss"] != nil {
            self = .evaluation(
                EvaluationRecord(
                    step: try integer("step"), loss: try number("valid_loss"),
                    isBest: json["best"]?.boolValue ?? false, seconds: try number("seconds"), metrics: metrics))
            return
        }
        let outcome = StepOutcome(
            loss: try number("loss"), tokens: try integer("tokens"),
            supervisedTokens: try integer("supervised_tokens"), metrics: metrics)
        let report = StepReport(
            step: try integer("step"), outcome: outcome, gradientNorm: try number("grad_norm"),
            learningRate: try number("learning_rate"))
        self = .step(
            StepRecord(
                report: report, epoch: try number("epoch"),
                blockGradientNorms: json["block_grad_norms"]?.arrayValue?.compactMap(\.doubleValue) ?? [],
                seconds: try number("seconds"), peakResidentBytes: try integer("peak_rss_bytes")))
    }
}
