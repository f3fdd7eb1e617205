import Foundation
import LoRATraining

/// One line that is rewritten on a terminal, a new line now and then in a pipe or a CI system's log.
struct ProgressLine {
    /// A line is rewritten only where someone looks at it.
    let isLive: Bool
    private let start = ContinuousClock.now
    private var due: ContinuousClock.Instant
    private var isOpen = false

    /// - Parameter delay: until something is worth a line.
    init(after delay: Duration = .zero) {
        let environment = ProcessInfo.processInfo.environment
        isLive = Console.isTerminal && environment["TERM"] != "dumb" && environment["CI"] == nil
        due = start + delay
    }

    var isDue: Bool { ContinuousClock.now >= due }

    mutating func show(_ text: String) {
        let now = ContinuousClock.now
        due = now + (isLive ? .milliseconds(100) : now - start < .seconds(300) ? .seconds(10) : .seconds(60))
        guard isLive else { return Console.note(text) }
        Console.renote(text)
        isOpen = true
    }

    /// Ends the line that was rewritten so far.
    mutating func close() {
        if isOpen { Console.note("") }
        isOpen = false
    }
}

/// How far large data is encoded, which takes minutes the first time. Nothing is said of what takes a moment.
final class EncodingProgress {
    private var line = ProgressLine(after: .seconds(2))

    func show(_ name: String, share: Double) {
        guard line.isDue else { return }
        line.show(String("encoding \(name): \(Int(share * 100))%".prefix(max(Console.width - 1, 1))))
    }

    func close() { line.close() }
}

/// How training goes.
final class TrainingProgress: RunRecorder {
    private let steps: Int
    private let start = ContinuousClock.now
    private var firstStep = 0
    private var lastEvaluation: Double?
    private var line = ProgressLine()

    init(steps: Int) { self.steps = steps }

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
            if !line.isLive {
                let note = record.isBest ? "" : ", not the best"
                Console.note(String(format: "step %d/%d  validation loss %.4f", record.step, steps, record.loss) + note)
            }
        }
    }

    func finish(_ summary: TrainingSummary) { close() }

    /// Ends the line that was rewritten so far.
    func close() { line.close() }

    private func show(_ record: StepRecord) {
        let step = record.report.step
        guard line.isDue || step == steps else { return }
        let elapsed = (ContinuousClock.now - start) / Duration.seconds(1)
        let left = elapsed / Double(step - firstStep) * Double(steps - step)
        let counter = "step \(step)/\(steps)"
        let validation = lastEvaluation.map { String(format: "  validation %.4f", $0) } ?? ""
        let facts =
            String(format: "loss %.4f", record.report.loss) + validation
            + String(format: "  %.0f tokens/s  ", record.tokensPerSecond) + "\(describe(seconds: left)) left"
        guard line.isLive else { return line.show("\(counter)  \(facts)") }
        line.show(Self.line(counter, facts, share: Double(step) / Double(steps), width: Console.width))
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
