import Foundation
import LoRAModel
import LoRAText
import LoRATraining

/// `lora train --dry-run`: what would be trained, without writing anything.
struct DryRun {
    let setup: TrainingSetup
    let threads: Int?

    func print() throws {
        let (data, plan) = (setup.dataset, setup.plan)
        let memory = TrainingPass.memory(
            setup.base.configuration, setup.adapter.layout, setup.passPlan,
            threads: threads ?? ProcessInfo.processInfo.activeProcessorCount)
        let lengths = data.lengths()
        Console.print(
            """
            data        \(data.path): \(data.rowCount) examples, \(data.skips.count) skipped
            tokens      \(data.tokenCount), of which \(data.supervisedCount) supervised; per example \
            \(lengths.first?.tokens ?? 0) to \(lengths.last?.tokens ?? 0), median \(Self.median(lengths))
            validation  \(setup.validation.map { "\($0.rowCount) examples" } ?? "none")
            copies      \(try copies())
            adapter     \(setup.adapter.layout.parameterCount) parameters in \(setup.adapter.layout.pairs.count) pairs
            steps       \(plan.stepCount) of \(plan.batchSize) examples
            products    \(setup.options.compute.rawValue)
            memory      \(describe(bytes: memory)) of buffers beside the mapped base
            time        \(try time())

            tokens      examples
            \(LengthHistogram(lengths).lines.joined(separator: "\n"))
            """)
        let preview = MaskedPreview(tokenizer: setup.tokenizer)
        for example in data.examples.prefix(3 * data.form.examplesPerRow) {
            Console.print("\n" + preview.text(example))
        }
    }

    private static func median(_ lengths: [(tokens: Int, examples: Int)]) -> Int {
        var rest = lengths.reduce(0) { $0 + $1.examples } / 2
        for length in lengths {
            if rest < length.examples { return length.tokens }
            rest -= length.examples
        }
        return 0
    }

    private func copies() throws -> String {
        let own = "\(setup.dataset.copyCount()) in the training data"
        let others = [("validation", setup.validation), ("test", try setup.testData())].compactMap { name, data in
            data.map { "\(setup.dataset.count(of: $0)) of the \(name) examples" }
        }
        return others.isEmpty ? own : "\(own); \(others.joined(separator: " and ")) are trained on"
    }

    /// Measured: a step that warms up, then one more if that was short.
    private func time() throws -> String {
        let pool = ThreadPool(count: threads)
        defer { pool.shutdown() }
        let trainer = try setup.makeTrainer(pool: pool)
        let objective = setup.makeObjective()
        var rate = 0.0
        for (_, indices) in setup.plan.batches().prefix(2) {
            let start = ContinuousClock.now
            let report = try trainer.step(indices, of: setup.dataset, objective: objective, learningRate: 0)
            let seconds = (ContinuousClock.now - start) / .seconds(1)
            rate = Double(report.tokens) / seconds
            if seconds > 10 { break }
        }
        let epochs = Double(setup.plan.stepCount) / Double(setup.plan.stepsPerEpoch)
        let seconds = epochs * Double(setup.dataset.tokenCount) / rate
        return "about \(describe(seconds: seconds)) at \(String(format: "%.0f", rate)) tokens/s, as a step or two took"
    }
}

/// Bars for how many examples there are of each length.
struct LengthHistogram {
    /// One for each class of lengths, `from - to  count  bar`.
    let lines: [String]

    private static let bars = 10
    private static let width = 40

    /// - Parameter lengths: ascending.
    init(_ lengths: [(tokens: Int, examples: Int)]) {
        guard let shortest = lengths.first?.tokens, let longest = lengths.last?.tokens else {
            lines = []
            return
        }
        let size = Self.classSize(for: longest - shortest + 1)
        let first = shortest / size
        var counts = [Int](repeating: 0, count: longest / size - first + 1)
        for length in lengths { counts[length.tokens / size - first] += length.examples }
        let most = counts.max() ?? 1
        lines = counts.enumerated().map { index, count in
            let lower = (first + index) * size
            let bar = count == 0 ? 0 : max(1, count * Self.width / most)
            return String(format: "%5ld - %-5ld %8ld  ", lower, lower + size - 1, count)
                + String(repeating: "#", count: bar)
        }
    }

    /// 1, 2 or 5 times a power of ten, so that about `bars` classes hold `span` lengths.
    private static func classSize(for span: Int) -> Int {
        var power = 1
        while true {
            for size in [power, 2 * power, 5 * power] where span <= size * bars { return size }
            power *= 10
        }
    }
}

/// Examples as text, with what is supervised marked.
struct MaskedPreview {
    let tokenizer: Tokenizer

    /// Supervised tokens are green on a terminal and in brackets elsewhere (https://no-color.org).
    func text(_ example: Example) -> String {
        let noColor = ProcessInfo.processInfo.environment["NO_COLOR"] ?? ""
        let isColoured = isatty(STDOUT_FILENO) == 1 && noColor.isEmpty
        let (open, close) = isColoured ? ("\u{1B}[32m", "\u{1B}[0m") : ("[[", "]]")
        var text = ""
        var isOpen = false
        for run in example.runs {
            if run.isSupervised != isOpen { text += run.isSupervised ? open : close }
            isOpen = run.isSupervised
            text += visible(tokenizer.decode(Array(example.tokens[run.range]), skippingSpecial: false))
        }
        return "line \(example.line): " + text + (isOpen ? close : "")
    }

    /// Rows may hold anything; a terminal gets no control characters of theirs but ends of lines and tabs.
    private func visible(_ text: String) -> String {
        text.unicodeScalars.map { scalar in
            scalar.properties.generalCategory == .control && scalar != "\n" && scalar != "\t"
                ? scalar.escaped(asASCII: true) : String(Character(scalar))
        }.joined()
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
