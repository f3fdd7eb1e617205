import LoRAFormats
import LoRAModel
import LoRAText
import LoRATraining

/// Rows to measure models on, as the base's chat template writes them.
struct HeldOutData {
    private let tokenizer: Tokenizer
    private let examples: Slice<Dataset.Examples>

    /// - Throws: `FormatError`, `TrainingDataError` or `TemplateError` in one line.
    init(path: String, split: Dataset.Split, limit: Int?, base: BaseModel) throws {
        tokenizer = try Tokenizer(gguf: base.file)
        let dataset = try Dataset.heldOut(path: path, split: split, base: base, tokenizer: tokenizer)
        guard dataset.form != .preference else {
            throw TrainingDataError("\(dataset.path): the rows are pairs of answers; give rows with one answer")
        }
        examples = dataset.examples.prefix(limit ?? .max)
    }

    /// Mean per supervised token, in nats.
    /// - Throws: `FormatError` when the memory cannot be had.
    func loss(of model: BaseModel, with adapter: AdapterParameters?, pool: ThreadPool) throws -> Double {
        let evaluator = Evaluator(
            model: model, tokenizer: tokenizer, pool: pool, compute: .best, examples: examples, questions: [Question]())
        let result = try evaluator.evaluate(name: nil, adapter: adapter, measuresLoss: true, measuresExactMatch: false)
        return result.loss ?? .nan
    }
}

extension Dataset {
    /// The rows of one split, with warnings about them on standard error.
    /// - Parameter mask: which answers of a conversation have a loss.
    /// - Throws: `FormatError`, `TrainingDataError` or `TemplateError` in one line.
    static func heldOut(
        path: String, split: Split, mask: LossMask = .all, base: BaseModel, tokenizer: Tokenizer
    ) throws -> Dataset {
        let encoder = try ExampleEncoder(
            gguf: base.file, tokenizer: tokenizer, maximumLength: .max,
            contextLength: base.configuration.contextLength, mask: mask, asksQuestions: true)
        guard let file = try Location(path: path).path(of: split) else {
            throw TrainingDataError("\(path): there is no \(split.rawValue) split")
        }
        let dataset = try Dataset(path: file, encoder: encoder)
        for warning in dataset.warnings { Console.note("warning: \(warning)") }
        return dataset
    }
}
