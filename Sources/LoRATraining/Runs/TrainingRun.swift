internal import Foundation
internal import LoRAFormats
public import LoRAModel
internal import OrderedCollections

/// What a finished run learned, and at what cost.
public struct TrainingSummary: Sendable {
    public let adapterPath: String
    public let adapterBytes: Int
    public let steps: Int
    /// Tokens of all examples trained on, counted each time.
    public let tokens: Int
    public let supervisedTokens: Int
    public let seconds: Double
    public let peakResidentBytes: Int
    /// Of each step, per supervised token.
    public let losses: [Double]
    /// After the last step; nil without validation data.
    public let validationLoss: Double?

    public var tokensPerSecond: Double { Double(tokens) / max(seconds, 1e-9) }
}

/// What a caller decides after a step.
public enum TrainingDirective: Sendable {
    case goOn
    case stop
}

/// Carries out a training run: steps, validation, and the adapter's file at the end.
public final class TrainingRun {
    public let setup: TrainingSetup
    private let pool: ThreadPool
    private let trainer: Trainer
    /// "oneDNN" or "OpenBLAS".
    public var engineName: String { trainer.pass.engineName }
    /// Whether blocks are computed again on the way back.
    public var checkpoints: Bool { trainer.pass.checkpoints }

    /// Takes the memory, and makes sure that the output can be written before hours are spent on it.
    /// - Throws: `FormatError`.
    public init(_ setup: TrainingSetup, pool: ThreadPool) throws {
        self.setup = setup
        self.pool = pool
        try TrainingOutput(setup).check()
        try setup.checkMemory(threads: pool.count)
        let pass = try TrainingPass(model: setup.base, adapter: setup.adapter, pool: pool, plan: setup.passPlan)
        trainer = Trainer(
            pass: pass, pool: pool, weightDecay: Float(setup.options.weightDecay),
            maximumGradientNorm: Float(setup.options.maximumGradientNorm), seed: setup.options.seed)
    }

    /// Runs all steps and writes the adapter. `onStep` sees each step with the tokens per second so far.
    /// - Returns: nil when `onStep` stopped the run; nothing is written then.
    /// - Throws: `TrainingError` when training diverges, `FormatError` when the adapter cannot be written.
    public func run(
        toolVersion: String, onStep: (_ report: StepReport, _ tokensPerSecond: Double) -> TrainingDirective
    ) throws -> TrainingSummary? {
        var losses: [Double] = []
        var (tokens, supervised) = (0, 0)
        let clock = ContinuousClock()
        let start = clock.now
        for (step, indices) in setup.plan.batches() {
            let examples = indices.map { setup.dataset.examples[$0] }
            let report = try trainer.step(examples, learningRate: setup.schedule.learningRate(at: step))
            losses.append(report.loss)
            tokens += report.tokens
            supervised += report.supervisedTokens
            let rate = Double(tokens) / Self.seconds(clock.now - start)
            if case .stop = onStep(report, rate) { return nil }
        }
        let seconds = Self.seconds(clock.now - start)
        let validationLoss = setup.validation.map { Evaluation.loss($0.examples, pass: trainer.pass).mean }
        let bytes = try file(losses: losses, validationLoss: validationLoss, toolVersion: toolVersion).serialized()
        try AtomicFile.write(bytes, to: setup.options.outputPath)
        return TrainingSummary(
            adapterPath: setup.options.outputPath, adapterBytes: bytes.count, steps: losses.count, tokens: tokens,
            supervisedTokens: supervised, seconds: seconds, peakResidentBytes: Self.peakResidentBytes, losses: losses,
            validationLoss: validationLoss)
    }

    private func file(losses: [Double], validationLoss: Double?, toolVersion: String) throws -> AdapterFile {
        let options = setup.options
        let configuration = setup.configuration
        var named = configuration
        named.baseModel = setup.base.file.metadata["general.name"]?.stringValue
        let targets = TargetModule.allCases.filter { target in
            setup.adapter.layout.pairs.contains { $0.target == target }
        }
        let record = AdapterRecord(
            domain: Self.domain(of: options.outputPath),
            baseFingerprint: BaseFingerprint.fingerprint(of: setup.base.file), rank: configuration.rank,
            alpha: configuration.alpha, targets: targets.map(\.rawValue),
            training: .object(record(losses: losses, validationLoss: validationLoss, toolVersion: toolVersion)))
        return try AdapterFile(
            configuration: named, record: record,
            tensors: setup.adapter.tensors(configuration: setup.base.configuration, type: options.precision))
    }

    private func record(
        losses: [Double], validationLoss: Double?, toolVersion: String
    ) -> OrderedDictionary<String, JSONValue> {
        let options = setup.options
        var record: OrderedDictionary<String, JSONValue> = [
            "tool_version": .string(toolVersion),
            "date": .string(Self.date),
            "data_sha256": .string(setup.dataset.digest),
            "examples": .integer(Int64(setup.dataset.examples.count)),
            "skipped_rows": .integer(Int64(setup.dataset.skips.count)),
            "tokens": .integer(Int64(setup.dataset.tokenCount)),
            "supervised_tokens": .integer(Int64(setup.dataset.supervisedCount)),
            "steps": .integer(Int64(losses.count)),
            "batch_size": .integer(Int64(options.batchSize)),
            "learning_rate": .number(options.learningRate),
            "schedule": .string(options.course.rawValue),
            "warmup": .number(options.warmup),
            "weight_decay": .number(options.weightDecay),
            "max_grad_norm": .number(options.maximumGradientNorm),
            "dropout": .number(options.dropout),
            "compute": .string(options.compute.rawValue),
            "threads": .integer(Int64(pool.count)),
            "seed": .string(String(options.seed)),
        ]
        if setup.configuration.decomposesWeights { record["dora"] = .bool(true) }
        if let first = losses.first, let last = losses.last, let best = losses.min() {
            record["first_loss"] = .number(first)
            record["last_loss"] = .number(last)
            record["best_loss"] = .number(best)
        }
        if let validationLoss { record["valid_loss"] = .number(validationLoss) }
        return record
    }

    /// The file's name without its extension.
    private static func domain(of path: String) -> String {
        URL(fileURLWithPath: path).deletingPathExtension().lastPathComponent
    }

    /// The day, in UTC; `SOURCE_DATE_EPOCH` (https://reproducible-builds.org/specs/source-date-epoch) sets it, so that a
    /// published adapter can be made again byte for byte.
    private static var date: String {
        let given = ProcessInfo.processInfo.environment["SOURCE_DATE_EPOCH"].flatMap { TimeInterval($0) }
        let date = given.map { Date(timeIntervalSince1970: $0) } ?? Date()
        return String(date.ISO8601Format().prefix(10))
    }

    private static func seconds(_ duration: Duration) -> Double {
        Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
    }

    /// The most memory that the process has had resident, the map included. `getrusage` counts in what the parent had
    /// when it started the process, so it only stands in where /proc does not tell.
    public static var peakResidentBytes: Int {
        let line = FileManager.default.contents(atPath: "/proc/self/status").flatMap { data in
            String(decoding: data, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        }
        let words = line?.split(whereSeparator: \.isWhitespace) ?? []
        if words.count > 1, let kilobytes = Int(words[1]) { return kilobytes * 1024 }
        var usage = rusage()
        getrusage(Int32(RUSAGE_SELF.rawValue), &usage)
        return usage.ru_maxrss * 1024
    }
}
