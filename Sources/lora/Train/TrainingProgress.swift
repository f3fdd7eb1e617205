import Foundation
import LoRATraining

/// How training goes: one line that is rewritten on a terminal, a new line now and then in a pipe or a CI system's log.
final class TrainingProgress: RunRecorder {
    private let steps: Int
    private let start = ContinuousClock.now
    private var firstStep = 0
    private var lastNote: ContinuousClock.Instant?
    private var lastEvaluation: Double?
    private var isLineOpen = false
    /// A line is rewritten only where someone looks at it.
    private let isLive: Bool

    init(steps: Int) {
        self.steps = steps
        let environment = ProcessInfo.processInfo.environment
        isLive = Console.isTerminal && environment["TERM"] != "dumb" && environment["CI"] == nil
    }

    func begin(_ history: [RunEvent]) {
        for event in history {
            switch event {
            case .step(let record): firstStep = record.report.step
            case .evaluation(let record): lastEvaluation = record.loss
            }
        }
        if firstStep > 0 { Console.note("going on after step \(firstStep) of \(steps)") }
    }

    func record(_ event: RunEvent) {
        switch event {
        case .step(let record): show(record)
        case .evaluation(let record):
            lastEvaluation = record.loss
            // Beside the steps' loss when the line is rewritten; a line of its own is for those who read it later.
            if !isLive {
                let note = record.isBest ? "" : ", not the best"
                Console.note(String(format: "step %d/%d  validation loss %.4f", record.step, steps, record.loss) + note)
            }
        }
    }

    func finish(_ summary: TrainingSummary) { close() }

    /// Ends the line that was rewritten so far.
    func close() {
        if isLineOpen { Console.note("") }
        isLineOpen = false
    }

    private func show(_ record: StepRecord) {
        let (step, now) = (record.report.step, ContinuousClock.now)
        guard isDue(now) || step == steps else { return }
        lastNote = now
        let elapsed = (now - start) / Duration.seconds(1)
        let left = elapsed / Double(step - firstStep) * Double(steps - step)
        let counter = "step \(step)/\(steps)"
        let validation = lastEvaluation.map { String(format: "  validation %.4f", $0) } ?? ""
        let facts =
            String(format: "loss %.4f", record.report.loss) + validation
            + String(format: "  %.0f tokens/s  ", record.tokensPerSecond) + "\(describe(seconds: left)) left"
        guard isLive else { return Console.note("\(counter)  \(facts)") }
        Console.renote(Self.line(counter, facts, share: Double(step) / Double(steps), width: Console.width))
        isLineOpen = true
    }

    private func isDue(_ now: ContinuousClock.Instant) -> Bool {
        guard let lastNote else { return true }
        let interval: Duration =
            isLive ? .milliseconds(100) : now - start < .seconds(300) ? .seconds(10) : .seconds(60)
        return now - lastNote >= interval
    }

    /// Counter, bar and facts in at most `width` columns: the bar takes what is left and goes first, then facts are cut.
    static func line(_ counter: String, _ facts: String, share: Double, width: Int) -> String {
        // A terminal wraps when its last column is written.
        let width = max(width - 1, 1)
        let room = min(width - counter.count - facts.count - 6, 40)
        guard room >= 8 else { return String("\(counter)  \(facts)".prefix(width)) }
        let filled = Int((share * Double(room)).rounded(.down))
        let bar = String(repeating: "=", count: filled) + String(repeating: " ", count: room - filled)
        return "\(counter)  [\(bar)]  \(facts)"
    }
}
