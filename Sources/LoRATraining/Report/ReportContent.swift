internal import LoRAFormats
internal import LoRAModel
internal import OrderedCollections

/// Everything that a report shows.
struct ReportContent {
    let domain: String
    let baseName: String
    /// The shell's command line that the run was started with.
    let command: String
    let summary: TrainingSummary
    let parameterCount: Int
    let history: [RunEvent]
    /// By pair, in the order of the adapter's layout.
    let changes: [ModuleChange]
    let data: [SplitStatistics]
    let answers: [AnswerComparison]
    /// Names and values as the adapter's record has them.
    let options: [(name: String, value: String)]

    /// What an adapter's file says about how it was made, nested members by their path.
    static func options(_ record: AdapterRecord) -> [(name: String, value: String)] {
        let own: OrderedDictionary<String, JSONValue> = [
            "rank": .integer(Int64(record.rank)), "alpha": .number(record.alpha),
            "targets": .string(record.targets.joined(separator: ", ")),
            "base_fingerprint": record.baseFingerprint.map { .string($0) } ?? .null,
        ]
        return members(.object(own), "") + members(record.training, "")
    }

    private static func members(_ value: JSONValue, _ path: String) -> [(name: String, value: String)] {
        guard let object = value.objectValue else { return [(path, value.stringValue ?? value.serialized())] }
        return object.flatMap { members($1, path.isEmpty ? $0 : "\(path).\($0)") }
    }
}

/// Series of what was recorded.
extension ReportContent {
    var steps: [StepRecord] {
        history.compactMap { if case .step(let record) = $0 { record } else { nil } }
    }

    var evaluations: [EvaluationRecord] {
        history.compactMap { if case .evaluation(let record) = $0 { record } else { nil } }
    }

    func series(
        _ name: String, mark: Series.Mark = .line, colour: Int = 1, _ value: (StepRecord) -> Double?
    ) -> Series {
        Series(
            name, mark: mark, colour: colour,
            steps.compactMap { step in value(step).map { (step: step.report.step, value: $0) } })
    }

    func evaluationSeries(_ name: String, colour: Int = 2, _ value: (EvaluationRecord) -> Double?) -> Series? {
        let points = evaluations.compactMap { record in value(record).map { (step: record.step, value: $0) } }
        return points.isEmpty ? nil : Series(name, mark: .dots, colour: colour, points)
    }

    /// A series as it is, faintly, and smoothed.
    func withSmoothing(_ raw: Series, _ name: String) -> [Series] {
        let span = Self.smoothingSpan(raw.steps.count)
        return span < 3 ? [Series(raw.name, colour: raw.colour, raw.points)] : [raw, raw.smoothed(name, span: span)]
    }

    static func smoothingSpan(_ count: Int) -> Int { min(count / 25, 50) }

    /// Names of what the objective measures beside the loss, in their order.
    var metricNames: [String] {
        var names: OrderedSet<String> = []
        for step in steps { names.formUnion(step.report.outcome.metrics.keys) }
        for evaluation in evaluations { names.formUnion(evaluation.metrics.keys) }
        return Array(names)
    }
}
