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
    @OptionGroup var optimizer: OptimizerOptions
    @OptionGroup var execution: ExecutionOptions
    @OptionGroup var common: CommonOptions

    func run() throws {
        let setup = try TrainingSetup(trainingOptions())
        for warning in setup.dataset.warnings + (setup.validation?.warnings ?? []) {
            Console.note("warning: \(warning)")
        }
        if execution.dryRun { return try DryRun(setup: setup, threads: common.threads).print() }
        let pool = common.makePool()
        defer { pool.shutdown() }
        // From here on files may be under way, so that a signal must not end the process where it stands.
        let interruption = Interruption()
        let run = try TrainingRun(setup, pool: pool)
        if !common.quiet { Console.note(Self.headline(run, threads: pool.count)) }
        var progress = TrainingProgress(steps: setup.plan.stepCount, isQuiet: common.quiet)
        let summary = try run.run(toolVersion: toolVersion) { report, rate in
            progress.show(report, tokensPerSecond: rate)
            return interruption.isRequested ? .stop : .goOn
        }
        progress.finish()
        guard let summary else {
            Console.note("interrupted: no adapter was written")
            throw ExitCode(130)
        }
        report(summary)
    }

    private static func headline(_ run: TrainingRun, threads: Int) -> String {
        let setup = run.setup
        let parameters = setup.adapter.layout.parameterCount
        return "training \(parameters) parameters on \(setup.dataset.examples.count) examples "
            + "(\(setup.dataset.tokenCount) tokens, \(setup.dataset.supervisedCount) supervised), "
            + "\(setup.plan.stepCount) steps; \(setup.options.compute.rawValue) products by \(run.engineName), "
            + "\(threads) threads\(run.checkpoints ? ", parts of the forward pass repeated" : "")"
    }

    private func report(_ summary: TrainingSummary) {
        if execution.json { return Console.print(Self.json(summary).serialized()) }
        let validation = summary.validationLoss.map { String(format: ", validation loss %.4f", $0) } ?? ""
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
            "best_valid_loss": summary.validationLoss.map { .number($0) } ?? .null,
            "losses": .array(summary.losses.map { .number($0) }),
        ])
    }
}

extension TrainCommand {
    private func trainingOptions() throws -> TrainingOptions {
        let path = adapter.output ?? "adapters/\(Self.name(ofData: adapter.data)).lora"
        var options = TrainingOptions(basePath: adapter.base, dataPath: adapter.data, outputPath: path)
        options.rank = adapter.rank
        options.alpha = adapter.alpha
        options.dropout = adapter.dropout
        options.usesRankStabilization = adapter.rslora
        options.decomposesWeights = adapter.dora
        options.targets = adapter.target.modules
        options.layers = adapter.layers.range
        options.initialAdapterPath = adapter.initAdapter
        options.allowsOtherBase = adapter.otherBase.allowOtherBase
        options.length = optimizer.steps.map { .steps($0) } ?? .epochs(optimizer.epochs ?? 1)
        options.batchSize = optimizer.batchSize
        options.maximumLength = optimizer.maxLength
        options.shuffles = optimizer.shuffle
        options.learningRate = optimizer.learningRate
        options.course = optimizer.schedule
        options.warmup = optimizer.warmup
        options.weightDecay = optimizer.weightDecay
        options.maximumGradientNorm = optimizer.maxGradNorm
        options.compute = try execution.compute.resolve()
        options.checkpointing = execution.checkpointing
        options.maximumMemory = execution.maxMemory?.bytes
        options.seed = execution.seed
        options.precision = execution.precision.type
        return options
    }

    private static func name(ofData path: String) -> String {
        URL(fileURLWithPath: path).deletingPathExtension().lastPathComponent
    }
}
