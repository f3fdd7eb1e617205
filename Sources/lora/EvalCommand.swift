import ArgumentParser
import Foundation
import LoRAFormats
import LoRAModel
import LoRAText
import LoRATraining

/// `lora eval`: base and adapters side by side on held-out rows.
struct EvalCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "eval",
        abstract: "Measure the base and any number of adapters on held-out rows.",
        discussion: """
            Example:
              lora eval --base models/base.bin --adapter adapters/smart-home.lora --data datasets/smart-home
            """)

    @Option(help: ArgumentHelp("The base model, a GGUF file.", valueName: "file"))
    var base: String

    @Option(help: ArgumentHelp("An adapter to measure; may be given several times.", valueName: "file"))
    var adapter: [String] = []

    @Option(help: ArgumentHelp("A directory with test.jsonl, or one JSONL file.", valueName: "path"))
    var data: String

    @Option(help: "The part of the data: train, valid or test.")
    var split = Dataset.Split.test

    @Option(help: "Only so many rows.")
    var limit: Int?

    @Option(help: ArgumentHelp("loss, exact-match, or both with a comma between.", valueName: "names"))
    var metrics = MetricsOption.all

    @Option(help: "Operands of matrix products: auto, f32 or bf16.")
    var compute = ComputeOption.auto

    @Option(help: "Scale of the reward margin of rows that are pairs of answers.")
    var beta = 0.1

    @Option(help: ArgumentHelp("Also print so many rows with every answer.", valueName: "n"))
    var show = 0

    @Flag(help: "Print one JSON object.")
    var json = false

    @OptionGroup var otherBase: OtherBaseOptions
    @OptionGroup var common: CommonOptions

    func validate() throws {
        if let limit, limit < 1 { throw ValidationError("--limit must be at least 1") }
        if show < 0 { throw ValidationError("--show must not be negative") }
        guard beta.isFinite, beta > 0 else { throw ValidationError("--beta must be above 0") }
    }

    func run() throws {
        let model = try BaseModel(path: base)
        let tokenizer = try Tokenizer(gguf: model.file)
        let dataset = try Dataset.heldOut(path: data, split: split, base: model, tokenizer: tokenizer)
        let pool = common.makePool()
        defer { pool.shutdown() }
        if dataset.form == .preference { return try comparePairs(dataset, model, pool) }
        let evaluator = Evaluator(
            model: model, tokenizer: tokenizer, pool: pool, compute: try compute.resolve(),
            examples: dataset.examples.prefix(limit ?? .max), questions: dataset.questions.prefix(limit ?? .max))
        let adapters = try adapter.map { try otherBase.loadAdapter($0, base: model) }
        var results: [EvaluationResult] = []
        for (name, parameters) in [(nil, nil)] + zip(adapter, adapters).map({ (Optional($0), Optional($1)) }) {
            if !common.quiet { Console.note("evaluating \(name ?? "the base")") }
            results.append(
                try evaluator.evaluate(
                    name: name, adapter: parameters, measuresLoss: metrics.names.contains("loss"),
                    measuresExactMatch: metrics.names.contains("exact-match")))
        }
        let table = EvaluationTable(split: split.rawValue, evaluator: evaluator, results: results)
        Console.print(json ? table.json.serialized() : table.text(rowsShown: show, tokenizer: tokenizer))
    }
}

extension EvalCommand {
    /// For rows that are pairs of answers.
    private func comparePairs(_ dataset: Dataset, _ model: BaseModel, _ pool: ThreadPool) throws {
        guard metrics.names.contains("loss"), show == 0 else {
            throw TrainingDataError(
                "\(dataset.path): the rows are pairs of answers, for which there is no exact match and no answer to "
                    + "show; leave --metrics and --show out")
        }
        let pairs = Array(dataset.pairs.prefix(limit ?? .max))
        let compute = try compute.resolve()
        let adapters = try adapter.map { try otherBase.loadAdapter($0, base: model) }
        func measure(_ name: String?, _ adapter: AdapterParameters?) throws -> (String?, PairScores, Double) {
            if !common.quiet { Console.note("evaluating \(name ?? "the base")") }
            let start = ContinuousClock.now
            let scores = try PairScores(of: pairs, model: model, adapter: adapter, pool: pool, compute: compute)
            return (name, scores, (ContinuousClock.now - start) / .seconds(1))
        }
        let base = try measure(nil, nil)
        let table = PreferenceTable(
            split: split.rawValue, pairCount: pairs.count, beta: beta, base: base.1,
            results: try [base] + zip(adapter, adapters).map { try measure($0, $1) })
        Console.print(json ? table.json.serialized() : table.text)
    }
}

/// Which metrics to measure.
struct MetricsOption: ExpressibleByArgument, CustomStringConvertible {
    static let all = MetricsOption(names: ["loss", "exact-match"])
    let names: [String]
    var description: String { names.joined(separator: ",") }

    private init(names: [String]) { self.names = names }

    init?(argument: String) {
        names = argument.split(separator: ",").map(String.init)
        guard !names.isEmpty, names.allSatisfy(Self.all.names.contains) else { return nil }
    }
}
