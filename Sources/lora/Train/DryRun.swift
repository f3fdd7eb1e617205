import Foundation
import LoRAModel
import LoRAText
import LoRATraining

/// `lora train --dry-run`: what would be trained, without training.
struct DryRun {
    let setup: TrainingSetup
    let threads: Int?

    func print() throws {
        let (data, plan) = (setup.dataset, setup.plan)
        let lengths = data.examples.map(\.tokens.count).sorted()
        let memory = TrainingPass.memory(
            setup.base.configuration, setup.adapter.layout, setup.passPlan,
            threads: threads ?? ProcessInfo.processInfo.activeProcessorCount)
        Console.print(
            """
            data        \(data.path): \(data.examples.count) examples, \(data.skips.count) skipped
            tokens      \(data.tokenCount), of which \(data.supervisedCount) supervised; per example \
            \(lengths.first ?? 0) to \(lengths.last ?? 0), median \(lengths[lengths.count / 2])
            validation  \(setup.validation.map { "\($0.examples.count) examples" } ?? "none")
            adapter     \(setup.adapter.layout.parameterCount) parameters in \(setup.adapter.layout.pairs.count) pairs
            steps       \(plan.stepCount) of \(plan.batchSize) examples
            products    \(setup.options.compute.rawValue)
            memory      \(describe(bytes: memory)) of buffers beside the mapped base
            """)
        for example in data.examples.prefix(3) { Console.print("\n" + preview(example)) }
    }

    /// The text of an example, its supervised tokens green on a terminal and in brackets elsewhere.
    private func preview(_ example: Example) -> String {
        let isColoured = isatty(STDOUT_FILENO) == 1 && ProcessInfo.processInfo.environment["NO_COLOR"] == nil
        let (open, close) = isColoured ? ("\u{1B}[32m", "\u{1B}[0m") : ("[[", "]]")
        var text = ""
        var isOpen = false
        for run in example.runs {
            if run.isSupervised != isOpen { text += run.isSupervised ? open : close }
            isOpen = run.isSupervised
            text += setup.tokenizer.decode(Array(example.tokens[run.range]), skippingSpecial: false)
        }
        return "line \(example.line): " + text + (isOpen ? close : "")
    }
}

extension Example {
    /// Consecutive tokens that are all supervised, or all not.
    fileprivate var runs: [(range: Range<Int>, isSupervised: Bool)] {
        var runs: [(range: Range<Int>, isSupervised: Bool)] = []
        for index in tokens.indices {
            if let last = runs.last, last.isSupervised == supervised[index] {
                runs[runs.count - 1].range = last.range.lowerBound..<index + 1
            } else {
                runs.append((index..<index + 1, supervised[index]))
            }
        }
        return runs
    }
}
