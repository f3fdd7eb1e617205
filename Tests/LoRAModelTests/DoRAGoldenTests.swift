import Foundation
import LoRAFormats
import Testing

@testable import LoRAModel

extension KernelTests {
    /// DoRA in f32 against PEFT: `Scripts/dora_golden.py` made the numbers.
    @Suite("Parity of tiny DoRA adapters with PEFT")
    struct DoRAGoldenTests {
        struct Numbered: Decodable {
            let range: Double
            let loss: Double
            let positions: [[Double]]
            let gradients: [String: [Double]]
        }

        static let golden = Result {
            let url = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Goldens/tiny_dora.json")
            return try JSONDecoder().decode([String: Numbered].self, from: Data(contentsOf: url))
        }
        static let models = [
            "tied": TinyModel(keyValueHeads: 2), "rslora": TinyModel(keyValueHeads: 4, isTied: false, linearFactor: 4),
        ]

        func setUp(_ name: String) throws -> (golden: Numbered, model: BaseModel, adapter: AdapterParameters) {
            let golden = try #require(try Self.golden.get()[name])
            let model = try #require(Self.models[name]).make()
            let configuration = AdapterConfiguration(
                rank: 4, alpha: 8, targetModules: .allLinear, usesRankStabilization: name == "rslora",
                decomposesWeights: true)
            let initial = AdapterParameters(
                layout: AdapterLayout(
                    configuration: model.configuration, matcher: try AdapterModuleMatcher(configuration)))
            initial.initializeMagnitudes(for: model)
            let tensors = try initial.tensors(configuration: model.configuration, type: .f32).map { tensor in
                let shape = tensor.shape
                if shape.count == 1 {
                    let norms = tensor.bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
                    let factors = TinyModel.uniform(tensor.name, seed: 1, count: shape[0], bound: 0.25)
                    let elements = zip(norms, factors).map { $0 * (1 + $1) }
                    return try NamedTensor(name: tensor.name, type: .f32, shape: shape, elements: elements)
                }
                let bound = tensor.name.contains("lora_A") ? Float(1 / Double(shape[1]).squareRoot()) : 0.1
                let elements = TinyModel.uniform(tensor.name, seed: 1, count: shape[0] * shape[1], bound: bound)
                return try NamedTensor(name: tensor.name, type: .f32, shape: shape, elements: elements)
            }
            #expect(tensors.count == 42)
            let record = AdapterRecord(domain: "tiny", baseFingerprint: nil, rank: 4, alpha: 8, targets: [])
            let file = try AdapterFile(configuration: configuration, record: record, tensors: tensors)
            return (golden, model, try AdapterParameters(file: file, configuration: model.configuration))
        }

        @Test("Logits to 1e-4 of their range", arguments: ["tied", "rslora"])
        func logits(name: String) throws {
            let (golden, model, adapter) = try setUp(name)
            try withPool { pool in
                let pass = try InferencePass(model: model, pool: pool, compute: .f32, capacity: 64, positions: 64)
                let rows = pass.logits(
                    TinyGoldenTests.examples[1].tokens, adapter: adapter.resolved(for: model, pool: pool))
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

        @Test(
            "Loss, and every gradient of A, B and m to 1e-3 of its norm", arguments: ["tied", "rslora"],
            [Checkpointing.off, .on])
        func gradients(name: String, checkpointing: Checkpointing) throws {
            let (golden, model, adapter) = try setUp(name)
            try withPool { pool in
                let pass = try TrainingPass(
                    model: model, adapter: adapter, pool: pool,
                    plan: .init(compute: .f32, rows: 80, positions: 64, checkpointing: checkpointing))
                let batch = PackedBatch(TinyGoldenTests.examples)
                let (loss, values) = pass.lossAndGradients(batch, scale: 1 / Float(batch.targets.count))
                #expect(abs(loss / Double(batch.targets.count) - golden.loss) <= 1e-5 * golden.loss)
                let gradients = AdapterParameters(layout: adapter.layout)
                gradients.values.update(from: values, count: values.count)
                let tensors = try gradients.tensors(configuration: model.configuration, type: .f32)
                #expect(tensors.count == golden.gradients.count)
                for tensor in tensors {
                    TinyGoldenTests.check(tensor, try #require(golden.gradients[tensor.name], "\(tensor.name)"))
                }
            }
        }
    }
}
