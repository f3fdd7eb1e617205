import Foundation
import LoRAFormats
import Testing

@testable import LoRAModel

extension KernelTests {
    /// The f32 path against transformers and PEFT: `Scripts/tiny_llama_golden.py` made the numbers.
    @Suite("Parity of tiny models with transformers")
    struct TinyGoldenTests {
        struct Golden: Decodable {
            let ropeFactors: [Double]
            /// Largest less smallest logit of the second example.
            let range: Double
            /// Mean over the supervised tokens.
            let loss: Double
            /// Of each row of the second example: the log-sum-exp, and sampled logits.
            let positions: [[Double]]
            /// Norm, and products with random signs.
            let gradients: [String: [Double]]
        }

        static let golden = Result {
            let url = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Goldens/tiny_llama.json")
            return try JSONDecoder().decode([String: Golden].self, from: Data(contentsOf: url))
        }
        static let models = [
            "tied": TinyModel(keyValueHeads: 2), "llama3": TinyModel(keyValueHeads: 1, isTied: false),
            "linear": TinyModel(keyValueHeads: 4, isTied: false, linearFactor: 4),
        ]
        static let examples = [(24, 5), (40, 20), (9, 1)].enumerated().map { index, example in
            Sample(count: example.0, from: example.1, seed: SplitMix64.hash("tokens \(index)"))
        }

        func setUp(_ name: String) throws -> (golden: Golden, model: BaseModel, adapter: AdapterParameters) {
            let golden = try #require(try Self.golden.get()[name])
            var tiny = try #require(Self.models[name])
            if name == "llama3" { tiny.ropeFactors = golden.ropeFactors.map { Float($0) } }
            let model = try tiny.make()
            let configuration = AdapterConfiguration(rank: 4, alpha: 8, targetModules: .allLinear)
            let layout = AdapterLayout(
                configuration: model.configuration, matcher: try AdapterModuleMatcher(configuration))
            #expect(layout.pairs.count == 14)
            let tensors = try layout.pairs.flatMap { pair in
                let bound = Float(1 / Double(pair.inputs).squareRoot())
                let A = TinyModel.uniform(pair.nameA, seed: 1, count: pair.countA, bound: bound)
                let B = TinyModel.uniform(pair.nameB, seed: 1, count: pair.countB, bound: 0.1)
                return [
                    try NamedTensor(name: pair.nameA, type: .f32, shape: [pair.rank, pair.inputs], elements: A),
                    try NamedTensor(name: pair.nameB, type: .f32, shape: [pair.outputs, pair.rank], elements: B),
                ]
            }
            let record = AdapterRecord(domain: "tiny", baseFingerprint: nil, rank: 4, alpha: 8, targets: [])
            let file = try AdapterFile(configuration: configuration, record: record, tensors: tensors)
            return (golden, model, try AdapterParameters(file: file, configuration: model.configuration))
        }

        @Test("Logits to 1e-4 of their range", arguments: ["tied", "llama3", "linear"])
        func logits(name: String) throws {
            let (golden, model, adapter) = try setUp(name)
            try withPool { pool in
                let pass = try InferencePass(model: model, pool: pool, compute: .f32, capacity: 64, positions: 64)
                let rows = pass.logits(Self.examples[1].tokens, adapter: adapter)
                #expect(rows.count == golden.positions.count)
                for (index, (row, expected)) in zip(rows, golden.positions).enumerated() {
                    var random = Numbers(UInt64(index))
                    let logSumExp = log(row.reduce(0.0) { $0 + exp(Double($1)) })
                    #expect(abs(logSumExp - expected[0]) <= 1e-4 * golden.range)
                    for value in expected.dropFirst() {
                        let id = Int(random.next() % UInt64(row.count))
                        #expect(abs(Double(row[id]) - value) <= 1e-4 * golden.range, "row \(index), token \(id)")
                    }
                }
            }
        }

        @Test("Loss, and every gradient to 1e-3 of its norm", arguments: ["tied", "llama3", "linear"])
        func gradients(name: String) throws {
            let (golden, model, adapter) = try setUp(name)
            try withPool { pool in
                let pass = try TrainingPass(
                    model: model, adapter: adapter, pool: pool, plan: .init(compute: .f32, rows: 80, positions: 64))
                let batch = PackedBatch(Self.examples)
                let (loss, values) = pass.lossAndGradients(batch, scale: 1 / Float(batch.targets.count))
                #expect(abs(loss / Double(batch.targets.count) - golden.loss) <= 1e-5 * golden.loss)
                let gradients = AdapterParameters(layout: adapter.layout)
                gradients.values.update(from: values, count: values.count)
                let tensors = try gradients.tensors(configuration: model.configuration, type: .f32)
                #expect(tensors.count == golden.gradients.count)
                for tensor in tensors {
                    Self.check(tensor, try #require(golden.gradients[tensor.name], "\(tensor.name)"))
                }
            }
        }

        static func check(_ tensor: NamedTensor, _ expected: [Double]) {
            let values = tensor.bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
            let tolerance = 1e-3 * expected[0]
            let norm = values.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
            #expect(abs(norm - expected[0]) <= tolerance, "\(tensor.name): norm \(norm), expected \(expected[0])")
            // A projection on random signs has the difference's norm as standard deviation: four of them.
            for (index, projection) in expected.dropFirst().enumerated() {
                var random = Numbers(SplitMix64.hash(tensor.name) &+ 2 &+ UInt64(index) << 32)
                let product = values.reduce(0.0) { $0 + (random.next() >> 63 == 0 ? Double($1) : -Double($1)) }
                #expect(abs(product - projection) <= 4 * tolerance, "\(tensor.name), projection \(index)")
            }
        }
    }
}
