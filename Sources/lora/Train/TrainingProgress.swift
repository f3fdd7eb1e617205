import Foundation
import LoRATraining

/// One line that says how training goes: rewritten on a terminal, a new line now and then in a pipe.
struct TrainingProgress {
    private let steps: Int
    private let isQuiet: Bool
    private let start = ContinuousClock.now
    private var lastNote: ContinuousClock.Instant?
    private var isLineOpen = false

    init(steps: Int, isQuiet: Bool) {
        self.steps = steps
        self.isQuiet = isQuiet
    }

    mutating func show(_ report: StepReport, tokensPerSecond: Double) {
        guard !isQuiet else { return }
        let now = ContinuousClock.now
        let interval: Duration = Console.isTerminal ? .milliseconds(100) : .seconds(10)
        let isDue = lastNote.map { now - $0 >= interval } ?? true
        guard isDue || report.step == steps else { return }
        lastNote = now
        let elapsed = (now - start) / Duration.seconds(1)
        let left = elapsed / Double(report.step) * Double(steps - report.step)
        let line =
            String(format: "step %d/%d  loss %.4f  %.0f tokens/s  ", report.step, steps, report.loss, tokensPerSecond)
            + "\(describe(seconds: left)) left"
        if Console.isTerminal { Console.renote(line) } else { Console.note(line) }
        isLineOpen = Console.isTerminal
    }

    mutating func finish() {
        if isLineOpen { Console.note("") }
        isLineOpen = false
    }
}
