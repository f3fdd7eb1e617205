import ArgumentParser
import Foundation
import LoRAFormats
import LoRAModel
import LoRATraining
import OrderedCollections

/// `lora train`: examples in, an adapter out.
struct TrainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "train",
        abstract: "Train an adapter on a data set.",
        discussion: """
            Example:
              lora train --base models/base.bin --data datasets/smart-home --epochs 2 --learning-rate 2e-3
            """)

    @OptionGroup var adapter: AdapterOptions
    @OptionGroup var data: DataOptions
    @OptionGroup var objective: ObjectiveOptions
    @OptionGroup var optimizer: OptimizerOptions
    @OptionGroup var runs: RunOptions
    @OptionGroup var reports: ReportOptions
    @OptionGroup var execution: ExecutionOptions
    @OptionGroup var common: CommonOptions

    func validate() throws {
        guard runs.findLr else { return }
        if optimizer.epochs != nil { throw ValidationError("--find-lr and --epochs exclude each other; give --steps") }
        if execution.dryRun { throw ValidationError("--find-lr and --dry-run exclude each other") }
        if let option = reports.given.first {
            throw ValidationError("--find-lr and --\(option) exclude each other: no run follows the test")
        }
    }

    func run() throws {
        let setup = try readSetup()
        for warning in setup.dataset.warnings + (setup.validation?.warnings ?? []) {
            Console.note("warning: \(warning)")
        }
        if execution.dryRun { return try DryRun(setup: setup, threads: common.threads).print() }
        if runs.findLr { return try findLearningRate(setup) }
        let pool = common.makePool()
        defer { pool.shutdown() }
        // From here on files may be under way, so that a signal must not end the process where it stands.
        let interruption = Interruption()
        let reporters = try reports.recorders(setup, pool: pool)
        let run = try TrainingRun(setup, pool: pool, toolVersion: toolVersion)
        for warning in run.warnings { Console.note("warning: \(warning)") }
        if !common.quiet { Console.note(Self.headline(run, threads: pool.count)) }
        let progress = common.quiet ? nil : TrainingProgress(steps: setup.plan.stepCount)
        defer { progress?.close() }
        let recorders: [(any RunRecorder)?] = [progress, runs.log.map { RunLog(path: $0) }]
        let outcome = try run.run(
            recorders: recorders.compactMap { $0 } + reporters, isInterrupted: { interruption.isRequested })
        switch outcome {
        case .finished(let summary): report(summary)
        case .interrupted(let checkpoints, let step):
            progress?.close()
            Console.note(
                "interrupted after step \(step) of \(setup.plan.stepCount): no adapter was written; go on with: "
                    + Self.commandToResume(CommandLine.arguments, checkpoints: checkpoints))
            throw ExitCode(130)
        }
    }

    private func readSetup() throws -> TrainingSetup {
        let options = try trainingOptions()
        let encoding = common.quiet ? nil : EncodingProgress()
        defer { encoding?.close() }
        return try TrainingSetup(options) { encoding?.show($0, share: $1) }
    }

    /// `--find-lr`: tries rates and writes nothing.
    private func findLearningRate(_ setup: TrainingSetup) throws {
        let pool = common.makePool()
        defer { pool.shutdown() }
        let interruption = Interruption()
        let test = try LearningRateTest(setup, pool: pool)
        if !common.quiet { Console.note("trying \(setup.plan.stepCount) learning rates") }
        let result = test.run { interruption.isRequested }
        if interruption.isRequested { throw ExitCode(130) }
        let report = LearningRateReport(result: result, width: Console.width)
        Console.print(execution.json ? report.json.serialized() : report.text)
    }

    /// The command line `arguments`, as a shell reads it, going on from `checkpoints`.
    static func commandToResume(_ arguments: [String], checkpoints: String) -> String {
        (Self.words(arguments, without: ["--resume", "--checkpoints"]) + ["--resume", checkpoints])
            .map(ShellCommand.quoted).joined(separator: " ")
    }

    /// A command line without some options and their values.
    static func words(_ arguments: [String], without options: [String]) -> [String] {
        var words = arguments
        for name in options {
            while let index = words.firstIndex(where: { $0 == name || $0.hasPrefix(name + "=") }) {
                words.removeSubrange(index..<min(index + (words[index] == name ? 2 : 1), words.count))
            }
        }
        return words
    }

    private static func headline(_ run: TrainingRun, threads: Int) -> String {
        let setup = run.setup
        let parameters = setup.adapter.layout.parameterCount
        return
            "training \(parameters) parameters on \(setup.dataset.rowCount) \(setup.options.objective.comparesAnswers ? "pairs" : "examples") "
            + "(\(setup.dataset.tokenCount) tokens, \(setup.dataset.supervisedCount) supervised), "
            + "\(setup.plan.stepCount) steps; \(setup.options.compute.rawValue) products by \(run.engineName), "
            + "\(threads) threads\(run.checkpoints ? ", parts of the forward pass repeated" : "")"
    }

    private func report(_ summary: TrainingSummary) {
        if execution.json { return Console.print(Self.json(summary).serialized()) }
        let kept = summary.keptStep == summary.steps ? "" : " (of step \(summary.keptStep), the best)"
        let validation = summary.validationLoss.map { String(format: ", validation loss %.4f", $0) + kept } ?? ""
        Console.print(
            "\(summary.adapterPath): \(describe(bytes: summary.adapterBytes)), \(summary.steps) steps in "
                + describe(seconds: summary.seconds)
                + String(format: ", %.0f tokens/s, ", summary.tokensPerSecond)
                + "peak memory \(describe(bytes: summary.peakResidentBytes))"
                + String(format: ", loss %.4f", summary.losses.last ?? .nan) + validation)
    }

    private static func json(_ summary: TrainingSummary) -> JSONValue {
        .object([
            "adapter": .string(summary.adapterPath),
            "steps": .integer(Int64(summary.steps)),
            "tokens": .integer(Int64(summary.tokens)),
            "supervised_tokens": .integer(Int64(summary.supervisedTokens)),
            "seconds": .number(summary.seconds),
            "tokens_per_second": .number(summary.tokensPerSecond),
            "peak_rss_bytes": .integer(Int64(summary.peakResidentBytes)),
            "first_loss": summary.losses.first.map { .number($0) } ?? .null,
            "last_loss": summary.losses.last.map { .number($0) } ?? .null,
            "best_valid_loss": summary.bestValidationLoss.map { .number($0) } ?? .null,
            "losses": .array(summary.losses.map { .number($0) }),
        ])
    }
}

extension TrainCommand {
    private func trainingOptions() throws -> TrainingOptions {
        let path = adapter.output ?? "adapters/\(Self.name(ofData: adapter.data)).lora"
        var options = TrainingOptions(basePath: adapter.base, dataPath: adapter.data, outputPath: path)
        options.rank = adapter.rank ?? options.rank
        options.alpha = adapter.alpha ?? options.alpha
        options.dropout = adapter.dropout
        options.usesRankStabilization = adapter.rslora
        options.decomposesWeights = adapter.dora
        options.targets = adapter.target?.modules ?? options.targets
        options.layers = adapter.layers?.range
        options.rankPattern = adapter.rankPattern?.values.mapValues { Int($0) } ?? [:]
        options.alphaPattern = adapter.alphaPattern?.values ?? [:]
        options.initialAdapterPath = adapter.initAdapter
        options.allowsOtherBase = adapter.otherBase.allowOtherBase
        let steps = optimizer.steps ?? (runs.findLr ? LearningRateTest.defaultSteps : nil)
        options.length = steps.map { .steps($0) } ?? .epochs(optimizer.epochs ?? 1)
        options.objective = objective.objective
        options.beta = objective.beta ?? TrainingOptions.defaultBeta
        options.batchSize = optimizer.batchSize
        options.maximumLength = optimizer.maxLength
        options.mask = data.mask
        options.holdOut = data.holdOut?.part
        options.shuffles = optimizer.shuffle
        options.learningRate = optimizer.learningRate
        options.course = optimizer.schedule
        options.warmup = optimizer.warmup
        options.weightDecay = optimizer.weightDecay
        options.maximumGradientNorm = optimizer.maxGradNorm
        options.loraPlusRatio = optimizer.loraPlusRatio
        options.evaluationInterval = runs.evalEvery
        options.keep = runs.keep
        options.patience = runs.patience
        options.saveInterval = runs.saveEvery
        options.checkpointsPath = runs.resume ?? runs.checkpoints
        options.resumes = runs.resume != nil
        options.logPath = runs.log
        options.reportPath = reports.report
        options.compute = try execution.compute.resolve()
        options.checkpointing = execution.checkpointing
        options.maximumMemory = execution.maxMemory?.bytes
        options.seed = execution.seed
        options.precision = execution.precision.type
        return options
    }

    /// The name of a directory may have a dot: `icd-10.1` and `icd-10.2` are two domains.
    static func name(ofData path: String) -> String {
        let name = URL(fileURLWithPath: path).lastPathComponent
        let ending = [".jsonl", ".json"].first(where: name.hasSuffix) ?? ""
        return String(name.dropLast(ending.count))
    }
}
