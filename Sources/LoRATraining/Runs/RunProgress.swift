/// How far a run is: everything that happened, and what follows from it.
struct RunProgress {
    private(set) var events: [RunEvent] = []
    /// Of each step.
    private(set) var losses: [Double] = []
    private(set) var tokens = 0
    private(set) var supervisedTokens = 0
    /// Spent in steps.
    private(set) var seconds = 0.0
    /// Steps that were done at the last validation.
    private(set) var evaluatedStep = 0
    private(set) var lastEvaluation: Double?
    /// The lowest loss in validation, and the steps done when it was met first.
    private(set) var best: (step: Int, loss: Double)?
    /// Validations in a row that brought nothing better.
    private(set) var evaluationsSinceBest = 0

    /// Steps done.
    var step: Int { losses.count }

    init(_ events: [RunEvent] = []) {
        for event in events { append(event) }
    }

    mutating func append(_ event: RunEvent) {
        events.append(event)
        switch event {
        case .step(let record):
            losses.append(record.report.loss)
            tokens += record.report.tokens
            supervisedTokens += record.report.supervisedTokens
            seconds += record.seconds
        case .evaluation(let record):
            evaluatedStep = record.step
            lastEvaluation = record.loss
            evaluationsSinceBest = record.isBest ? 0 : evaluationsSinceBest + 1
            if record.isBest { best = (record.step, record.loss) }
        }
    }

    /// Whether a validation loss is lower than all before.
    func isBest(_ loss: Double) -> Bool { best.map { loss < $0.loss } ?? true }
}
