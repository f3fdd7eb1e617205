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

/// What the adapter is and what it learns from.
struct AdapterOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The base model, a GGUF file.", valueName: "file"))
    var base: String

    @Option(help: ArgumentHelp("A directory with train.jsonl, or one JSONL file.", valueName: "path"))
    var data: String

    @Option(help: ArgumentHelp("The adapter to write (default: adapters/<name of the data>.lora).", valueName: "file"))
    var output: String?

    @Option(help: "Rank of A and B.")
    var rank = 8

    @Option(help: "The branch is scaled by alpha / rank.")
    var alpha = 16.0

    @Option(help: "Share of the branch's inputs dropped in training.")
    var dropout = 0.0

    @Flag(help: "Scale by alpha / sqrt(rank) (rsLoRA).")
    var rslora = false

    @Flag(help: "Learn a magnitude for each row of the adapted matrices too (DoRA).")
    var dora = false

    @Option(help: ArgumentHelp("attention, all-linear, or names such as q_proj,v_proj.", valueName: "modules"))
    var target = TargetOption.attention

    @Option(help: ArgumentHelp("Blocks that get pairs: all, or a range such as 10-29.", valueName: "range"))
    var layers = LayersOption.all

    @Option(help: ArgumentHelp("Go on from this adapter, with its rank and targets.", valueName: "file"))
    var initAdapter: String?

    @OptionGroup var otherBase: OtherBaseOptions

    func validate() throws {
        guard (1...4096).contains(rank) else { throw ValidationError("--rank must be from 1 to 4096") }
        guard alpha.isFinite, alpha > 0 else { throw ValidationError("--alpha must be above 0") }
        guard (0..<1).contains(dropout) else { throw ValidationError("--dropout must be at least 0 and below 1") }
    }
}

/// How it is optimised.
struct OptimizerOptions: ParsableArguments {
    @Option(help: "Times through the data (default: 1).")
    var epochs: Int?

    @Option(help: "Optimizer steps, instead of epochs.")
    var steps: Int?

    @Option(help: "Examples per optimizer step.")
    var batchSize = 16

    @Option(help: "Rows with more tokens are skipped.")
    var maxLength = 2048

    @Flag(inversion: .prefixedNo, help: "A new order of the data in each epoch.")
    var shuffle = true

    @Option(help: "The highest learning rate.")
    var learningRate = 1e-3

    @Option(help: "What the learning rate does after the warm-up: linear, cosine or constant.")
    var schedule = Schedule.Course.linear

    @Option(help: "Share of the steps in which the learning rate rises.")
    var warmup = 0.03

    @Option(help: "Decoupled weight decay.")
    var weightDecay = 0.0

    @Option(help: "Gradients are scaled down to this norm; 0 for never.")
    var maxGradNorm = 1.0

    func validate() throws {
        if epochs != nil, steps != nil { throw ValidationError("--epochs and --steps exclude each other") }
        for (name, value) in [("--epochs", epochs), ("--steps", steps)] {
            if let value, !(1...1_000_000_000).contains(value) {
                throw ValidationError("\(name) must be from 1 to 1000000000")
            }
        }
        guard (1...1_000_000).contains(batchSize) else {
            throw ValidationError("--batch-size must be from 1 to 1000000")
        }
        guard (2...1 << 24).contains(maxLength) else {
            throw ValidationError("--max-length must be from 2 to \(1 << 24)")
        }
        guard learningRate.isFinite, learningRate > 0 else { throw ValidationError("--learning-rate must be above 0") }
        guard (0...1).contains(warmup) else { throw ValidationError("--warmup must be from 0 to 1") }
        guard weightDecay.isFinite, weightDecay >= 0 else {
            throw ValidationError("--weight-decay must not be negative")
        }
        guard maxGradNorm.isFinite, maxGradNorm >= 0 else {
            throw ValidationError("--max-grad-norm must not be negative")
        }
    }
}

/// How the machine is used, and what is written beside the adapter.
struct ExecutionOptions: ParsableArguments {
    @Option(help: "Operands of matrix products: auto, f32 or bf16.")
    var compute = ComputeOption.auto

    @Option(help: "Keep block inputs only and compute the rest again: auto (when memory wants it), on or off.")
    var checkpointing = Checkpointing.auto

    @Option(help: ArgumentHelp("Memory that the process may take (default: 1.5GiB).", valueName: "size"))
    var maxMemory: ByteSize?

    @Option(help: "Seed of initial values, order and dropout.")
    var seed: UInt64 = 0

    @Option(help: "Element type of the adapter's file: bf16, f16 or f32.")
    var precision = PrecisionOption.bf16

    @Flag(help: "Read all data, show what would be trained, and stop.")
    var dryRun = false

    @Flag(help: "Print one JSON object.")
    var json = false

    func validate() throws {
        if dryRun, json { throw ValidationError("--dry-run and --json exclude each other") }
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

/// `attention`, `all-linear`, or a list of PEFT's names.
struct TargetOption: ExpressibleByArgument, CustomStringConvertible {
    static let attention = TargetOption(modules: TargetModule.attention, description: "attention")
    let modules: [TargetModule]
    let description: String

    private init(modules: [TargetModule], description: String) {
        self.modules = modules
        self.description = description
    }

    init?(argument: String) {
        description = argument
        switch argument {
        case "attention": modules = TargetModule.attention
        case "all-linear": modules = TargetModule.allCases
        default:
            let names = argument.split(separator: ",", omittingEmptySubsequences: false)
            let found = names.compactMap { TargetModule(rawValue: String($0)) }
            guard found.count == names.count, Set(found).count == found.count else { return nil }
            modules = TargetModule.allCases.filter(found.contains)
        }
    }
}

/// `all`, one block, or a range of blocks.
struct LayersOption: ExpressibleByArgument, CustomStringConvertible {
    static let all = LayersOption(range: nil)
    let range: ClosedRange<Int>?
    var description: String { range.map { "\($0.lowerBound)-\($0.upperBound)" } ?? "all" }

    private init(range: ClosedRange<Int>?) { self.range = range }

    init?(argument: String) {
        if argument == "all" { self = .all; return }
        let ends = argument.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
        guard let first = ends.first, let lower = first, ends.count <= 2, let last = ends.last, let upper = last,
            lower >= 0, lower <= upper
        else { return nil }
        range = lower...upper
    }
}

/// Element types of an adapter's file.
enum PrecisionOption: String, ExpressibleByArgument, CaseIterable {
    case bf16, f16, f32

    var type: SafetensorsType {
        switch self {
        case .bf16: .bf16
        case .f16: .f16
        case .f32: .f32
        }
    }
}
