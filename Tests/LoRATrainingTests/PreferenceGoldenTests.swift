import LoRAFormats
import LoRAModel
import OrderedCollections
import Testing

@testable import LoRATraining

/// `Goldens/trl_preference.json`, written by `Scripts/preference_golden.py`.
private struct PreferenceGolden: Decodable {
    struct Pair: Decodable {
        /// Token ids; the answers with the token that ends them.
        let prompt, chosen, rejected: [Int32]

        var pair: PreferencePair { PreferencePair(chosen: example(chosen), rejected: example(rejected)) }

        private func example(_ answer: [Int32]) -> Example {
            let tokens = prompt + answer
            return Example(tokens: tokens, supervised: tokens.indices.map { $0 >= prompt.count }, line: 1)
        }
    }

    struct Step: Decodable {
        let loss: Double
        let pairs: [Pair]
        /// Under TRL's names.
        let metrics: [String: Double]
        /// Of each tensor: the norm, and products with random signs.
        let gradients: [String: [Double]]
    }

    struct Run: Decodable {
        let objective: String
        let beta: Double
        /// B is uniform within it; above 0 where an adapter is trained further.
        let bBound: Double
        let steps: [Step]
    }

    let rank: Int
    let alpha, learningRate: Double
    let seed, signs: UInt64
    let runs: [String: Run]
}

/// DPO and ORPO against TRL's trainers, on a tiny model in f32.
@Suite("Parity with TRL", .serialized)
struct PreferenceGoldenTests {
    private let golden: PreferenceGolden
    private let model: BaseModel

    init() throws {
        golden = try TestFiles.golden("trl_preference.json", as: PreferenceGolden.self)
        model = try TrainerModel.make()
    }

    @Test(
        "Losses, gradients and what is logged of five steps, to 1e-3", arguments: ["dpo", "dpo-continued", "orpo"],
        [256, 60])
    func steps(name: String, rows: Int) throws {
        let run = try #require(golden.runs[name])
        let adapter = try adapter(bBound: Float(run.bBound))
        let pool = ThreadPool(count: 2)
        defer { pool.shutdown() }
        let pass = try TrainingPass(
            model: model, adapter: adapter, pool: pool, plan: .init(compute: .f32, rows: rows, positions: 64))
        let trainer = Trainer(pass: pass, pool: pool, weightDecay: 0, maximumGradientNorm: 0, seed: 0)
        let objective = PreferenceObjective(
            try #require(Objective(rawValue: run.objective)), beta: run.beta, initial: adapter)
        #expect(run.steps.count == 5)
        for (index, expected) in run.steps.enumerated() {
            let pairs = expected.pairs.map(\.pair)
            let report = try trainer.step(pairs, objective: objective, learningRate: golden.learningRate)
            #expect(abs(report.loss - expected.loss) <= 1e-3 * expected.loss, "step \(index): \(report.loss)")
            #expect(Set(report.outcome.metrics.keys) == Set(expected.metrics.keys))
            for (name, value) in expected.metrics {
                // Rewards are differences of sums near 50 in f32, which are good to 1e-5 each.
                let actual = report.outcome.metrics[name] ?? .nan
                #expect(abs(actual - value) <= 1e-3 * abs(value) + 1e-4, "step \(index), \(name): \(actual), \(value)")
            }
            try check(trainer.lastGradients, adapter.layout, expected.gradients, step: index)
        }
    }

    /// The adapter that the script filled by formula, through the file's own order of rows.
    private func adapter(bBound: Float) throws -> AdapterParameters {
        let configuration = AdapterConfiguration(rank: golden.rank, alpha: golden.alpha, targetModules: .allLinear)
        let layout = AdapterLayout(configuration: model.configuration, matcher: try AdapterModuleMatcher(configuration))
        let tensors = try layout.pairs.flatMap { pair in
            let (a, b) = (
                GoldenAdapter.a(name: pair.nameA, seed: golden.seed, rank: pair.rank, inputs: pair.inputs),
                GoldenAdapter.uniform(name: pair.nameB, seed: golden.seed, count: pair.countB, bound: bBound)
            )
            return [
                try NamedTensor(name: pair.nameA, type: .f32, shape: [pair.rank, pair.inputs], elements: a),
                try NamedTensor(name: pair.nameB, type: .f32, shape: [pair.outputs, pair.rank], elements: b),
            ]
        }
        let record = AdapterRecord(
            domain: "golden", baseFingerprint: nil, rank: golden.rank, alpha: golden.alpha, targets: [])
        let file = try AdapterFile(configuration: configuration, record: record, tensors: tensors)
        return try AdapterParameters(file: file, configuration: model.configuration)
    }

    private func check(
        _ values: UnsafePointer<Float>, _ layout: AdapterLayout, _ golden: [String: [Double]], step: Int
    ) throws {
        let gradients = AdapterParameters(layout: layout)
        gradients.values.update(from: values, count: layout.parameterCount)
        let tensors = try gradients.tensors(configuration: model.configuration, type: .f32)
        #expect(tensors.count == golden.count)
        for tensor in tensors {
            let expected = try #require(golden[tensor.name], "\(tensor.name)")
            let values = tensor.bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
            let tolerance = 1e-3 * expected[0]
            let norm = values.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
            #expect(abs(norm - expected[0]) <= tolerance, "step \(step), \(tensor.name): \(norm), \(expected[0])")
            // A random sign projection of the difference has its norm as standard deviation: four of them.
            for (index, projection) in expected.dropFirst().enumerated() {
                let seed = self.golden.signs + UInt64(index) << 32
                let signs = GoldenAdapter.signs(name: tensor.name, seed: seed, count: values.count)
                let product = zip(values, signs).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
                #expect(
                    abs(product - projection) <= 4 * tolerance, "step \(step), \(tensor.name), projection \(index)")
            }
        }
    }
}
