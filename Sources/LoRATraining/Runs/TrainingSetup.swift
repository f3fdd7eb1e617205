internal import LoRAFormats
public import LoRAModel
public import LoRAText
internal import OrderedCollections

/// A run made ready: base mapped, data read, adapter laid out, steps planned. Nothing is written yet.
public final class TrainingSetup {
    public let options: TrainingOptions
    public let base: BaseModel
    public let tokenizer: Tokenizer
    public let dataset: Dataset
    /// Nil when the data has no split to validate with.
    public let validation: Dataset?
    public let plan: BatchPlan
    public let schedule: Schedule
    public let adapter: AdapterParameters
    /// Of the adapter's file; that of the initial adapter where there is one.
    let configuration: AdapterConfiguration
    /// Of what the run starts from; nil when it starts from nothing learned.
    let initialAdapterDigest: String?
    public let passPlan: TrainingPass.Plan
    private let encoder: ExampleEncoder

    /// Rows that a pass packs examples into, unless a single example is longer: enough that products run at full speed,
    /// few enough that the tape stays small.
    static let rowsPerPass = 1024
    /// What the process may take when nothing else is said.
    static let defaultMemory = 3 << 29
    /// What the program takes beside base and buffers.
    static let processMemory = 64 << 20
    /// A value, its gradient, the optimizer's two moments, and the value when validation was best.
    private static func bytesPerParameter(_ options: TrainingOptions) -> Int {
        // DPO's reference has values of its own.
        options.objective == .dpo ? 24 : 20
    }

    /// - Parameter progress: told now and then, while rows are encoded, the file's name and the share of it that is done.
    /// - Throws: `FormatError`, `TrainingDataError` or `TemplateError` in one line.
    public init(
        _ options: TrainingOptions, progress: (_ name: String, _ share: Double) -> Void = { _, _ in }
    ) throws {
        self.options = options
        base = try BaseModel(path: options.basePath)
        tokenizer = try Tokenizer(gguf: base.file)
        encoder = try ExampleEncoder(
            gguf: base.file, tokenizer: tokenizer, maximumLength: options.maximumLength,
            contextLength: base.configuration.contextLength, mask: options.mask, asksQuestions: false)
        (dataset, validation) = try Self.datasets(options, encoder, progress)
        try Self.checkValidation(options, hasData: validation != nil)
        for data in [dataset] + (validation.map { [$0] } ?? []) { try data.check(options.objective) }
        plan = try BatchPlan(
            exampleCount: dataset.rowCount, batchSize: options.batchSize, length: options.length,
            shuffles: options.shuffles, seed: options.seed)
        schedule = Schedule(
            course: options.course, peak: options.learningRate, warmupFraction: options.warmup,
            stepCount: plan.stepCount)
        (adapter, configuration, initialAdapterDigest) = try Self.adapter(options, base: base)
        passPlan = Self.passPlan(
            options, base: base, adapter: adapter, datasets: [dataset] + (validation.map { [$0] } ?? []))
    }

    private static func datasets(
        _ options: TrainingOptions, _ encoder: ExampleEncoder, _ progress: (String, Double) -> Void
    ) throws -> (train: Dataset, validation: Dataset?) {
        let location = try Dataset.Location(path: options.dataPath)
        let validation = try location.path(of: .valid)
        if let path = validation, options.holdOut != nil {
            throw TrainingDataError("\(path): is there to validate with; remove it, or leave --hold-out out")
        }
        guard let path = try location.path(of: .train) else { throw TrainingDataError("no train data") }
        let train = try Dataset(path: path, encoder: encoder, progress: progress)
        if let part = options.holdOut {
            let (rest, held) = try train.holdingOut(part, seed: options.seed)
            return (rest, held)
        }
        return (train, try validation.map { try Dataset(path: $0, encoder: encoder, progress: progress) })
    }

    /// - Throws: `TrainingDataError` for options that need validation data where there is none.
    private static func checkValidation(_ options: TrainingOptions, hasData: Bool) throws {
        let asking = [
            ("--eval-every", options.evaluationInterval != nil), ("--patience", options.patience != nil),
            ("--keep best", options.keep == .best),
        ].filter(\.1).map(\.0)
        guard !hasData, !asking.isEmpty else { return }
        throw TrainingDataError(
            "\(options.dataPath): \(asking.joined(separator: ", ")) needs validation data and there is none; "
                + "name a directory that has a valid.jsonl too, or give --hold-out")
    }

    private static func adapter(
        _ options: TrainingOptions, base: BaseModel
    ) throws -> (AdapterParameters, AdapterConfiguration, initialDigest: String?) {
        if let path = options.initialAdapterPath {
            let file = try AdapterFile.read(path: path)
            var configuration = file.configuration
            configuration.dropout = options.dropout
            let adapter = try file.parameters(for: base, path: path, allowsOtherBase: options.allowsOtherBase)
            return (adapter, configuration, file.contentDigest)
        }
        if let layers = options.layers, layers.upperBound >= base.configuration.blockCount {
            throw FormatError(
                "--layers \(layers.lowerBound)-\(layers.upperBound): "
                    + "the base has blocks 0 to \(base.configuration.blockCount - 1)")
        }
        let matcher = try AdapterModuleMatcher(options.adapterConfiguration)
        let layout = AdapterLayout(configuration: base.configuration, matcher: matcher)
        try checkPatterns(options, layout)
        let adapter = AdapterParameters(layout: layout)
        adapter.initialize(seed: options.seed)
        adapter.initializeMagnitudes(for: base)
        return (adapter, options.adapterConfiguration, nil)
    }

    /// - Throws: `FormatError` for a pattern that no adapted module matches: it was meant to change something.
    private static func checkPatterns(_ options: TrainingOptions, _ layout: AdapterLayout) throws {
        let keys = [("--rank-pattern", options.rankPattern.keys), ("--alpha-pattern", options.alphaPattern.keys)]
        for (option, key) in keys.flatMap({ option, keys in keys.map { (option, $0) } }) {
            var probe = options.adapterConfiguration
            (probe.alpha, probe.alphaPattern) = (1, [key: 2])
            let matcher = try AdapterModuleMatcher(probe)
            guard !layout.pairs.contains(where: { matcher.alpha(of: $0.moduleName) == 2 }) else { continue }
            throw FormatError(
                "\(option) \(FormatError.quoted(key)): no adapted module's name ends so; names are like "
                    + "\(layout.pairs.first?.moduleName ?? TargetModule.queryProjection.moduleName(block: 0))")
        }
    }

    private static func passPlan(
        _ options: TrainingOptions, base: BaseModel, adapter: AdapterParameters, datasets: [Dataset]
    ) -> TrainingPass.Plan {
        let longest = datasets.reduce(1) { max($0, $1.longestRows) }
        // Both texts of a pair are in one pass.
        let together = datasets.reduce(1) { max($0, $1.longestRows * $1.form.examplesPerRow) }
        let mapped = base.file.tensors.reduce(0) { $0 + $1.byteCount }
        let taken = mapped + processMemory + adapter.layout.parameterCount * bytesPerParameter(options)
        let memory = max(0, (options.maximumMemory ?? defaultMemory) - taken)
        return TrainingPass.Plan(
            compute: options.compute, rows: max(together, rowsPerPass), positions: longest + 1,
            dropout: Float(options.dropout), checkpointing: options.checkpointing, memory: memory)
    }
}

extension TrainingSetup {
    /// The data's split to test with, which a run does not touch; nil where there is none beside what is trained on.
    /// - Throws: `TrainingDataError` when it cannot be read.
    public func testData() throws -> Dataset? {
        let location = try Dataset.Location(path: options.dataPath)
        guard case .directory = location, let path = try? location.path(of: .test) else { return nil }
        return try Dataset(path: path, encoder: encoder)
    }

    /// Steps from one validation to the next.
    var evaluationInterval: Int { options.evaluationInterval ?? plan.stepsPerEpoch }
    /// Whether the adapter with the lowest validation loss is written, not the last.
    var keepsBest: Bool { validation != nil && options.keep != .last }

    /// What a run that compares answers minimises; nil for the loss of the answers. The adapter is to be as it was made.
    public func makeObjective() -> PreferenceObjective? {
        guard options.objective.comparesAnswers else { return nil }
        return PreferenceObjective(options.objective, beta: options.beta, initial: adapter)
    }

    /// The adapter's trainer.
    /// - Throws: `FormatError` when the memory cannot be had, or the run needs more than the user allows.
    public func makeTrainer(pool: ThreadPool) throws -> Trainer {
        try checkMemory(threads: pool.count)
        let pass = try TrainingPass(model: base, adapter: adapter, pool: pool, plan: passPlan)
        return Trainer(
            pass: pass, pool: pool, weightDecay: Float(options.weightDecay),
            maximumGradientNorm: Float(options.maximumGradientNorm), loraPlusRatio: Float(options.loraPlusRatio),
            seed: options.seed)
    }

    /// - Throws: `FormatError` when the run needs more memory than the user allows.
    private func checkMemory(threads: Int) throws {
        guard let allowed = options.maximumMemory else { return }
        let mapped = base.file.tensors.reduce(0) { $0 + $1.byteCount }
        let buffers = TrainingPass.memory(base.configuration, adapter.layout, passPlan, threads: threads)
        let needed =
            mapped + Self.processMemory + buffers + adapter.layout.parameterCount * Self.bytesPerParameter(options)
        guard needed > allowed else { return }
        let limit = allowed < 1 << 20 ? "\(allowed) bytes" : "\(allowed >> 20) MiB"
        throw FormatError(
            "the run needs about \(needed >> 20) MiB, but --max-memory allows \(limit); allow more, or need less with "
                + "--checkpointing on, a lower --rank or a lower --max-length")
    }
}
