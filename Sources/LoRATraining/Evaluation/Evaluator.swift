public import LoRAModel
public import LoRAText

/// What a model did on a set of rows; a metric that was not asked for is nil.
public struct EvaluationResult: Sendable {
    /// Nil for the base alone.
    public let adapter: String?
    /// Mean per supervised token, in nats.
    public let loss: Double?
    public let answers: [Evaluation.Answer]?
    public let seconds: Double

    /// Share of answers that are exact; nil where the rows ask nothing.
    public var exactMatch: Double? {
        guard let answers, !answers.isEmpty else { return nil }
        return Double(answers.count(where: \.isExact)) / Double(answers.count)
    }
}

/// Measures one base with different adapters on the same rows.
public struct Evaluator {
    public let examples: AnyRandomAccessCollection<Example>
    public let questions: AnyRandomAccessCollection<Question>
    private let model: BaseModel
    private let tokenizer: Tokenizer
    private let pool: ThreadPool
    private let compute: Compute

    /// Questions answered at a time.
    private static let slots = 32

    public init(
        model: BaseModel, tokenizer: Tokenizer, pool: ThreadPool, compute: Compute,
        examples: some RandomAccessCollection<Example>, questions: some RandomAccessCollection<Question>
    ) {
        self.model = model
        self.tokenizer = tokenizer
        self.pool = pool
        self.compute = compute
        self.examples = AnyRandomAccessCollection(examples)
        self.questions = AnyRandomAccessCollection(questions)
    }

    /// - Throws: `FormatError` when the memory cannot be had.
    public func evaluate(
        name: String?, adapter: AdapterParameters?, measuresLoss: Bool, measuresExactMatch: Bool
    ) throws -> EvaluationResult {
        let start = ContinuousClock.now
        let loss = measuresLoss ? try meanLoss(adapter) : nil
        let answers = measuresExactMatch ? try answers(adapter) : nil
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        return EvaluationResult(adapter: name, loss: loss, answers: answers, seconds: seconds)
    }

    private func meanLoss(_ adapter: AdapterParameters?) throws -> Double {
        let longest = examples.reduce(1) { max($0, PackedBatch.rowsNeeded(supervised: $1.supervised)) }
        let pass = try TrainingPass(
            evaluating: model, adapter: adapter, longest: longest, pool: pool, compute: compute)
        return Evaluation.loss(examples, pass: pass).mean
    }

    private func answers(_ adapter: AdapterParameters?) throws -> [Evaluation.Answer] {
        let generator = try Generator(
            model: model, pool: pool, compute: compute, slots: Self.slots,
            positions: Evaluation.positions(questions, tokenizer: tokenizer))
        let resolved = adapter?.resolved(for: model, pool: pool)
        return Evaluation.answers(questions, generator: generator, adapter: resolved, tokenizer: tokenizer)
    }
}

extension TrainingPass {
    /// A pass to evaluate with, which keeps as little as a pass can.
    /// - Parameters:
    ///   - adapter: nil for the base alone.
    ///   - longest: rows of the largest example, or pair.
    /// - Throws: `FormatError` when the memory cannot be had.
    convenience init(
        evaluating model: BaseModel, adapter: AdapterParameters?, longest: Int, pool: ThreadPool, compute: Compute
    ) throws {
        let none = AdapterLayout(configuration: model.configuration) { _, _ in nil }
        try self.init(
            model: model, adapter: adapter ?? AdapterParameters(layout: none), pool: pool,
            plan: .init(
                compute: compute, rows: max(longest, TrainingSetup.rowsPerPass), positions: longest + 1,
                checkpointing: .on))
    }
}
