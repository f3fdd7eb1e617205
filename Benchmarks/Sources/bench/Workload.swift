import Foundation
import LoRAFormats
import LoRAModel
import LoRAText
import LoRATraining

/// One thing to measure, in a process of its own, so that its peak memory is its own.
struct Workload {
    let name: String
    let compute: Compute
    let rank: Int
    let targets: [TargetModule]
    let data: Data

    enum Data {
        /// Random tokens, all supervised.
        case random(examples: Int, length: Int)
        /// The first rows of a JSONL file, 16 to a step.
        case rows(path: String, steps: Int)
    }

    static func all(dataset: String) -> [Workload] {
        let attention = TargetModule.attention
        let short = Data.random(examples: 4, length: 256)
        return [
            Workload(name: "4x256-bf16", compute: .bf16, rank: 8, targets: attention, data: short),
            Workload(name: "4x256-f32", compute: .f32, rank: 8, targets: attention, data: short),
            Workload(
                name: "4x256-bf16-rank64-all-linear", compute: .bf16, rank: 64, targets: TargetModule.allCases,
                data: short),
            Workload(
                name: "smart-home-bf16", compute: .bf16, rank: 8, targets: attention,
                data: .rows(path: dataset + "/train.jsonl", steps: 12)),
            Workload(
                name: "1x8192-bf16", compute: .bf16, rank: 8, targets: attention,
                data: .random(examples: 1, length: 8192)),
        ]
    }

    /// Runs steps and tells the fastest, as the peers' figures do.
    func run(base: String, threads: Int) throws -> Result {
        let start = ContinuousClock.now
        let model = try BaseModel(path: base)
        let pool = ThreadPool(count: threads)
        defer { pool.shutdown() }
        let layout = AdapterLayout(configuration: model.configuration) { _, target in
            targets.contains(target) ? (rank, 2) : nil
        }
        let adapter = AdapterParameters(layout: layout)
        adapter.initialize(seed: 0)
        let steps = try examples(model)
        let rows = steps.map { $0.reduce(0) { $0 + PackedBatch.rowsNeeded(supervised: $1.supervised) } }.max() ?? 1
        let longest = steps.joined().reduce(1) { max($0, $1.tokens.count) }
        let pass = try TrainingPass(
            model: model, adapter: adapter, pool: pool,
            plan: .init(
                compute: compute, rows: min(rows, max(longest, 1024)), positions: longest + 1, checkpointing: .auto,
                memory: 1 << 30))
        let trainer = Trainer(pass: pass, pool: pool, weightDecay: 0, maximumGradientNorm: 1, seed: 0)
        var best: (rate: Double, phases: TrainingPass.Phases, seconds: Double)?
        var firstStep: Double?
        for examples in steps {
            let begin = ContinuousClock.now
            if firstStep == nil { firstStep = (begin - start) / .seconds(1) }
            let before = pass.phases
            let report = try trainer.step(examples, learningRate: 1e-4)
            let seconds = (ContinuousClock.now - begin) / .seconds(1)
            let rate = Double(report.tokens) / seconds
            if best == nil || rate > best?.rate ?? 0 { best = (rate, pass.phases - before, seconds) }
        }
        let total = best ?? (0, TrainingPass.Phases(), 0)
        return Result(
            name: name, tokensPerSecond: total.rate, stepSeconds: total.seconds, forwardSeconds: total.phases.forward,
            lossSeconds: total.phases.loss, backwardSeconds: total.phases.backward, secondsToFirstStep: firstStep ?? 0,
            peakResidentBytes: TrainingRun.peakResidentBytes, checkpoints: pass.checkpoints,
            gigaflopsPerToken: gigaflopsPerToken(model.configuration, steps.first ?? []))
    }

    private func examples(_ model: BaseModel) throws -> [[Example]] {
        switch data {
        case .random(let count, let length):
            var random = SplitMix64(seed: 1)
            let steps = length > 2048 ? 2 : 8
            return (0..<steps).map { _ in
                (0..<count).map { _ in
                    let tokens = (0..<length).map { _ in
                        Int32(random.next(below: model.configuration.vocabularySize - 64))
                    }
                    return Example(tokens: tokens, supervised: tokens.map { _ in true }, line: 1)
                }
            }
        case .rows(let path, let steps):
            let tokenizer = try Tokenizer(gguf: model.file)
            let encoder = ExampleEncoder(
                tokenizer: tokenizer, format: try ChatFormat(gguf: model.file, tokenizer: tokenizer),
                maximumLength: 2048)
            let rows = try Dataset(path: path, encoder: encoder).examples
            return (0..<steps).map { Array(rows[$0 * 16..<($0 + 1) * 16]) }
        }
    }

    /// What training cannot do without, per token: two products forward and backward for each weight of the blocks, the
    /// same for the head at supervised positions, and attention forward and twice that backward.
    private func gigaflopsPerToken(_ configuration: ModelConfiguration, _ examples: [Example]) -> Double {
        let (C, F) = (Double(configuration.hiddenSize), Double(configuration.feedForwardSize))
        let (Q, KV) = (Double(configuration.querySize), Double(configuration.keyValueSize))
        let block = C * (2 * Q + 2 * KV) + 3 * C * F
        let tokens = Double(examples.reduce(0) { $0 + $1.tokens.count })
        let supervised = Double(examples.reduce(0) { $0 + $1.supervisedCount })
        let pairs = examples.reduce(0.0) { $0 + Double($1.tokens.count * $1.tokens.count) / 2 }
        let blocks = Double(configuration.blockCount)
        let head = C * Double(configuration.vocabularySize)
        return (4 * blocks * block * tokens + 4 * head * supervised + blocks * 12 * pairs * Q) / tokens * 1e-9
    }

    struct Result: Codable {
        let name: String
        let tokensPerSecond: Double
        let stepSeconds: Double
        let forwardSeconds: Double
        let lossSeconds: Double
        let backwardSeconds: Double
        let secondsToFirstStep: Double
        let peakResidentBytes: Int
        let checkpoints: Bool
        let gigaflopsPerToken: Double
    }
}
