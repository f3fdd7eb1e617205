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

    @Option(help: "Answers of a conversation that have a loss: all, or the last alone.")
    var mask = LossMask.all

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
        if show > 0, !metrics.names.contains("exact-match") {
            throw ValidationError("--show needs --metrics exact-match, which has the rows answered")
        }
        guard beta.isFinite, beta > 0 else { throw ValidationError("--beta must be above 0") }
    }

    func run() throws {
        let model = try BaseModel(path: base)
        let compute = try compute.resolve()
        // Before the data, which may take long to read.
        let adapters = try adapter.map { Candidate(name: $0, adapter: try otherBase.loadAdapter($0, base: model)) }
        let candidates = [Candidate(name: nil, adapter: nil)] + adapters
        let tokenizer = try Tokenizer(gguf: model.file)
        let dataset = try Dataset.heldOut(path: data, split: split, mask: mask, base: model, tokenizer: tokenizer)
        let pool = common.makePool()
        defer { pool.shutdown() }
        if dataset.form == .preference { return try comparePairs(dataset, model, candidates, pool, compute) }
        let examples = dataset.examples.prefix(limit ?? .max)
        // Not every row asks something: the questions are those of the same rows.
        let lastLine = examples.last?.line ?? 0
        let evaluator = Evaluator(
            model: model, tokenizer: tokenizer, pool: pool, compute: compute, examples: examples,
            questions: dataset.questions.prefix { $0.line <= lastLine })
        let results = try candidates.map { candidate in
            note(candidate)
            return try evaluator.evaluate(
                name: candidate.name, adapter: candidate.adapter, measuresLoss: metrics.names.contains("loss"),
                measuresExactMatch: metrics.names.contains("exact-match"))
        }
        let table = EvaluationTable(split: split.rawValue, evaluator: evaluator, results: results)
        Console.print(json ? table.json.serialized() : table.text(rowsShown: show, tokenizer: tokenizer))
    }

    /// What is measured: the base, which has neither, or an adapter.
    private struct Candidate {
        let name: String?
        let adapter: AdapterParameters?
    }

    private func note(_ candidate: Candidate) {
        if !common.quiet { Console.note("evaluating \(candidate.name ?? "the base")") }
    }
}

extension EvalCommand {
    /// For rows that are pairs of answers.
    private func comparePairs(
        _ dataset: Dataset, _ model: BaseModel, _ candidates: [Candidate], _ pool: ThreadPool, _ compute: Compute
    ) throws {
        guard metrics.names.contains("loss"), show == 0 else {
            throw TrainingDataError(
                "\(dataset.path): the rows are pairs of answers, for which there is no exact match and no answer to "
                    + "show; leave --metrics and --show out")
        }
        let pairs = dataset.pairs.prefix(limit ?? .max)
        let results = try candidates.map { candidate -> PreferenceTable.Result in
            note(candidate)
            let start = ContinuousClock.now
            let scores = try PairScores(
                of: pairs, model: model, adapter: candidate.adapter, pool: pool, compute: compute)
            return (candidate.name, scores, (ContinuousClock.now - start) / .seconds(1))
        }
        let table = PreferenceTable(split: split.rawValue, pairCount: pairs.count, beta: beta, results: results)
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
