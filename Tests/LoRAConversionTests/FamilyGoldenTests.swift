import Foundation
import LoRAFormats
import LoRAText
import Testing

@testable import LoRAConversion
@testable import LoRAModel

/// Imported checkpoints in f32 against transformers and PEFT: `Scripts/tiny_families_golden.py` made them.
@Suite("Families of models", .serialized)
struct FamilyGoldenTests {
    struct Golden: Decodable {
        /// Largest less smallest logit of the second example.
        let range: Double
        /// Mean over the supervised tokens.
        let loss: Double
        /// Of each row of the second example: the log-sum-exp, and sampled logits.
        let positions: [[Double]]
        /// Norm, and products with random signs.
        let gradients: [String: [Double]]
    }

    static let names = ["llama", "mistral", "qwen2", "qwen3"]
    static let examples: [(tokens: [Int32], start: Int)] = [(24, 5), (40, 20), (9, 1)].enumerated().map {
        var random = SplitMix64(seed: SplitMix64.hash("tokens \($0)"))
        return ((0..<$1.0).map { _ in Int32(random.next() % 264) }, $1.1)
    }

    static func golden(_ name: String) throws -> Golden {
        try JSONDecoder().decode(
            Golden.self, from: Data(contentsOf: Family.directory(name).appending(path: "expected.json")))
    }

    /// The golden's adapter, whose values are formulas of their names.
    static func adapter(_ model: BaseModel) throws -> AdapterParameters {
        let configuration = AdapterConfiguration(rank: 4, alpha: 8, targetModules: .allLinear)
        let layout = AdapterLayout(
            configuration: model.configuration, matcher: try AdapterModuleMatcher(configuration))
        #expect(layout.pairs.count == 14)
        let tensors = try layout.pairs.flatMap { pair in
            let bound = Float(1 / Double(pair.inputs).squareRoot())
            let (A, B) = (uniform(pair.nameA, pair.countA, bound), uniform(pair.nameB, pair.countB, 0.1))
            return [
                try NamedTensor(name: pair.nameA, type: .f32, shape: [pair.rank, pair.inputs], elements: A),
                try NamedTensor(name: pair.nameB, type: .f32, shape: [pair.outputs, pair.rank], elements: B),
            ]
        }
        let record = AdapterRecord(domain: "tiny", baseFingerprint: nil, rank: 4, alpha: 8, targets: [])
        let file = try AdapterFile(configuration: configuration, record: record, tensors: tensors)
        return try AdapterParameters(file: file, configuration: model.configuration)
    }

    private static func uniform(_ name: String, _ count: Int, _ bound: Float) -> [Float] {
        var random = SplitMix64(seed: SplitMix64.hash(name) &+ 1)
        return (0..<count).map { _ in bound * (Float(random.next() >> 40) * 0x1p-23 - 1) }
    }

    @Test("Logits to 1e-4, at once and token by token", arguments: names)
    func logits(name: String) throws {
        let golden = try Self.golden(name)
        let model = try Family.imported(name)
        let packed = PackedAdapter(try Self.adapter(model))
        let pool = ThreadPool(count: 2)
        defer { pool.shutdown() }
        let pass = try InferencePass(model: model, pool: pool, compute: .f32, capacity: 64, positions: 64)
        let tokens = Self.examples[1].tokens
        let whole = KeyValueCache(configuration: model.configuration)
        var rows: [[Float]] = []
        pass.run([.init(cache: whole, tokens: tokens, adapter: packed, wanted: .all)]) { _, _, row in
            rows.append(Array(row))
        }
        try #require(rows.count == golden.positions.count)
        for (index, (row, expected)) in zip(rows, golden.positions).enumerated() {
            var random = SplitMix64(seed: UInt64(index))
            let logSumExp = log(row.reduce(0.0) { $0 + exp(Double($1)) })
            #expect(abs(logSumExp - expected[0]) <= 1e-4, "row \(index)")
            for value in expected.dropFirst() {
                let id = Int(random.next() % UInt64(row.count))
                #expect(abs(Double(row[id]) - value) <= 1e-4, "row \(index), token \(id)")
            }
        }
        let stepwise = KeyValueCache(configuration: model.configuration)
        for (index, token) in tokens.enumerated() {
            pass.run([.init(cache: stepwise, tokens: [token], adapter: packed, wanted: .last)]) { _, _, row in
                #expect(zip(row, rows[index]).allSatisfy { abs($0 - $1) <= 1e-4 }, "token \(index)")
            }
        }
    }

    @Test("Loss, and every gradient to 1e-3 of its norm", arguments: names, Checkpointing.allCases)
    func gradients(name: String, checkpointing: Checkpointing) throws {
        let golden = try Self.golden(name)
        let (loss, tensors) = try Self.run(name, .f32, checkpointing)
        #expect(abs(loss - golden.loss) <= 1e-5 * golden.loss)
        #expect(tensors.count == golden.gradients.count)
        for tensor in tensors { check(tensor, try #require(golden.gradients[tensor.name], "\(tensor.name)")) }
    }

    /// Rounding to bf16 moves a gradient of these models by some percent.
    @Test("Gradients in bf16 point where those in f32 do", arguments: names)
    func roundedGradients(name: String) throws {
        guard Compute.bf16.isSupported else { return }
        let exact = try Self.run(name, .f32, .off).tensors
        let (_, kept) = try Self.run(name, .bf16, .off)
        let (_, repeated) = try Self.run(name, .bf16, .on)
        #expect(kept.map(\.bytes) == repeated.map(\.bytes), "a short tape gives other gradients than a long one")
        for (one, other) in zip(exact, kept) {
            let (a, b) = (Self.values(one), Self.values(other))
            let product = zip(a, b).reduce(0) { $0 + $1.0 * $1.1 }
            let lengths = (a.reduce(0) { $0 + $1 * $1 } * b.reduce(0) { $0 + $1 * $1 }).squareRoot()
            #expect(product > 0.97 * lengths, "\(one.name)")
        }
    }

    private static func run(
        _ name: String, _ compute: Compute, _ checkpointing: Checkpointing
    ) throws -> (loss: Double, tensors: [NamedTensor]) {
        let model = try Family.imported(name)
        let adapter = try adapter(model)
        let pool = ThreadPool(count: 2)
        defer { pool.shutdown() }
        let plan = TrainingPass.Plan(compute: compute, rows: 80, positions: 64, checkpointing: checkpointing)
        let pass = try TrainingPass(model: model, adapter: adapter, pool: pool, plan: plan)
        var batch = PackedBatch()
        for example in examples {
            let supervised = example.tokens.indices.map { $0 >= example.start }
            batch.append(tokens: example.tokens, supervised: supervised)
        }
        let gradients = AdapterParameters(layout: adapter.layout)
        let loss = pass.run(batch, gradients: gradients.values, scale: 1 / Float(batch.targets.count), dropoutSeed: 0)
        let tensors = try gradients.tensors(configuration: model.configuration, type: .f32)
        return (loss / Double(batch.targets.count), tensors)
    }

    private static func values(_ tensor: NamedTensor) -> [Double] {
        tensor.bytes.withUnsafeBytes { $0.bindMemory(to: Float.self).map { Double($0) } }
    }

    private func check(_ tensor: NamedTensor, _ expected: [Double]) {
        let values = Self.values(tensor)
        let tolerance = 1e-3 * expected[0]
        let norm = values.reduce(0) { $0 + $1 * $1 }.squareRoot()
        #expect(abs(norm - expected[0]) <= tolerance, "\(tensor.name): norm \(norm), expected \(expected[0])")
        // A projection on random signs has the difference's norm as standard deviation: four of them.
        for (index, projection) in expected.dropFirst().enumerated() {
            var random = SplitMix64(seed: SplitMix64.hash(tensor.name) &+ 2 &+ UInt64(index) << 32)
            let product = values.reduce(0) { $0 + (random.next() >> 63 == 0 ? $1 : -$1) }
            #expect(abs(product - projection) <= 4 * tolerance, "\(tensor.name), projection \(index)")
        }
    }
}

/// The checked-in checkpoints.
enum Family {
    static func directory(_ name: String) -> URL {
        URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Goldens/families/\(name)")
    }

    /// A checkpoint as a mapped base, whose file is gone already.
    static func imported(_ name: String, type: GGUFTensorType? = nil) throws -> BaseModel {
        try withFolder { folder in
            let path = folder.appending(path: "base.bin").path
            try BaseConversion.importBase(from: directory(name).path, to: path, type: type)
            return try BaseModel(path: path)
        }
    }

    /// A folder that is gone after `body`.
    static func withFolder<Value>(_ body: (URL) throws -> Value) throws -> Value {
        let folder = FileManager.default.temporaryDirectory.appending(path: "families-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        return try body(folder)
    }
}
