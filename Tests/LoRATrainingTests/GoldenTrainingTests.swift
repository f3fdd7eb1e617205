import Foundation
import LoRAFormats
import LoRAModel
import LoRAText
import Testing

@testable import LoRATraining

/// The f32 path against PyTorch and PEFT on the real base: `Scripts/peft_golden.py` and `Scripts/logits_golden.py` made
/// the numbers.
@Suite("Parity with PyTorch", .serialized)
struct GoldenTrainingTests {
    let golden: PEFTGolden
    let base: BaseModel
    let configuration: AdapterConfiguration

    init() throws {
        golden = try TestFiles.golden("peft_smart_home.json", as: PEFTGolden.self)
        base = try BaseModel(path: TestFiles.base)
        configuration = AdapterConfiguration(
            rank: golden.rank, alpha: golden.alpha, targetModules: .names(golden.targets))
    }

    @Test("Logits of a 512-token text equal transformers' to 1e-3 of their range")
    func logits() throws { try checkLogits("base_logits.json", adapter: nil) }

    @Test("With the checked-in adapter they equal PEFT's, which loads it unzipped")
    func adapterLogits() throws {
        let path = TestFiles.package.appending(path: "adapters/smart-home.lora").path
        let adapter = try AdapterFile.read(path: path).parameters(for: base, path: path, allowsOtherBase: false)
        try checkLogits("adapter_logits.json", adapter: adapter)
    }

    private func checkLogits(_ name: String, adapter: AdapterParameters?) throws {
        let golden = try TestFiles.golden(name, as: LogitsGolden.self)
        let pool = ThreadPool(count: 2)
        defer { pool.shutdown() }
        let pass = try InferencePass(
            model: base, pool: pool, compute: .f32, capacity: golden.ids.count, positions: golden.ids.count + 1)
        let chunk = InferencePass.Chunk(
            cache: KeyValueCache(configuration: base.configuration), tokens: golden.ids,
            adapter: adapter.map(PackedAdapter.init), wanted: .all)
        var (worst, seen) = (0.0, 0)
        pass.run([chunk]) { _, row, logits in
            let expected = golden.positions[row]
            for (id, value) in zip(golden.sampledIDs(position: row), expected.sampled) {
                worst = max(worst, abs(Double(logits[id]) - value))
            }
            worst = max(worst, abs(Double(logits[expected.bestID]) - expected.best))
            let sum = logits.reduce(0.0) { $0 + exp(Double($1) - expected.best) }
            worst = max(worst, abs(log(sum) + expected.best - expected.logSumExp))
            seen += 1
        }
        #expect(seen == golden.ids.count)
        #expect(worst <= 1e-3 * golden.range, "worst difference \(worst) in a range of \(golden.range)")
    }

    @Test("Tokens and masks of the first batch equal the reference's")
    func firstBatch() throws {
        let examples = try firstExamples()
        for (example, expected) in zip(examples, golden.firstBatch) {
            #expect(example.tokens == expected.ids)
            #expect(example.supervised.firstIndex(of: true) == expected.supervisedFrom)
            #expect(example.supervised[expected.supervisedFrom...].allSatisfy { $0 })
        }
    }

    @Test("Every gradient of A and B at step 1 equals PyTorch's to 1e-3 of its norm", arguments: [1024, 300])
    func gradients(rows: Int) throws {
        let adapter = try adapter(bBound: Float(golden.bBound))
        let pool = ThreadPool(count: 2)
        defer { pool.shutdown() }
        let trainer = try trainer(adapter, pool: pool, rows: rows)
        let report = try trainer.step(firstExamples(), learningRate: 0)
        #expect(abs(report.loss - golden.gradientLoss) <= 1e-4 * golden.gradientLoss)
        let gradients = AdapterParameters(layout: adapter.layout)
        gradients.values.update(from: trainer.lastGradients, count: adapter.layout.parameterCount)
        let tensors = try gradients.tensors(configuration: base.configuration, type: .f32)
        #expect(tensors.count == golden.gradients.count)
        for tensor in tensors { try check(tensor) }
    }

    @Test("The first 20 losses equal PEFT's to 1e-3")
    func losses() throws {
        let adapter = try adapter(bBound: 0)
        let pool = ThreadPool(count: 2)
        defer { pool.shutdown() }
        let trainer = try trainer(adapter, pool: pool, rows: 1024)
        let schedule = Schedule(
            course: try #require(Schedule.Course(rawValue: golden.schedule)), peak: golden.learningRate,
            warmupFraction: golden.warmup, stepCount: golden.steps)
        let examples = try Self.dataset(base).examples
        for (step, expected) in golden.run.enumerated() {
            let batch = Array(examples[step * golden.batchSize..<(step + 1) * golden.batchSize])
            let rate = schedule.learningRate(at: step)
            #expect(abs(rate - expected.learningRate) < 1e-9)
            let report = try trainer.step(batch, learningRate: rate)
            #expect(report.tokens == expected.tokens)
            #expect(report.supervisedTokens == expected.supervised)
            #expect(abs(report.loss - expected.loss) <= 1e-3 * expected.loss, "step \(step)")
            // Norms are sums over squares that cancel little: ten times the losses' tolerance is ample.
            #expect(abs(report.gradientNorm - expected.gradientNorm) <= 1e-2 * expected.gradientNorm, "step \(step)")
        }
    }

    private static func dataset(_ base: BaseModel) throws -> Dataset {
        let tokenizer = try TestBase.tokenizer.get()
        let encoder = ExampleEncoder(tokenizer: tokenizer, format: try TestBase.format.get(), maximumLength: 2048)
        return try Dataset(path: TestFiles.smartHome.appending(path: "train.jsonl").path, encoder: encoder)
    }

    private func firstExamples() throws -> [Example] {
        Array(try Self.dataset(base).examples.prefix(golden.batchSize))
    }

    private func trainer(_ adapter: AdapterParameters, pool: ThreadPool, rows: Int) throws -> Trainer {
        let pass = try TrainingPass(
            model: base, adapter: adapter, pool: pool, plan: .init(compute: .f32, rows: rows, positions: 512))
        return Trainer(
            pass: pass, pool: pool, weightDecay: Float(golden.weightDecay),
            maximumGradientNorm: Float(golden.maxGradientNorm), seed: 0)
    }

    /// The adapter that the script filled by formula, through the file's own order of rows.
    private func adapter(bBound: Float) throws -> AdapterParameters {
        let matcher = try AdapterModuleMatcher(configuration)
        let layout = AdapterLayout(configuration: base.configuration, matcher: matcher)
        let tensors = try layout.pairs.flatMap { pair in
            let seed = golden.seeds.initial
            let (a, b) = (
                GoldenAdapter.a(name: pair.nameA, seed: seed, rank: pair.rank, inputs: pair.inputs),
                GoldenAdapter.uniform(name: pair.nameB, seed: seed, count: pair.countB, bound: bBound)
            )
            return [
                try NamedTensor(name: pair.nameA, type: .f32, shape: [pair.rank, pair.inputs], elements: a),
                try NamedTensor(name: pair.nameB, type: .f32, shape: [pair.outputs, pair.rank], elements: b),
            ]
        }
        let record = AdapterRecord(
            domain: "golden", baseFingerprint: nil, rank: golden.rank, alpha: golden.alpha, targets: golden.targets)
        let file = try AdapterFile(configuration: configuration, record: record, tensors: tensors)
        return try AdapterParameters(file: file, configuration: base.configuration)
    }

    private func check(_ tensor: NamedTensor) throws {
        let expected = try #require(golden.gradients[tensor.name], "\(tensor.name)")
        let values = tensor.bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        let norm = values.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
        let tolerance = 1e-3 * expected.norm
        #expect(abs(norm - expected.norm) <= tolerance, "\(tensor.name): norm \(norm), expected \(expected.norm)")
        for entry in expected.entries {
            #expect(abs(Double(values[Int(entry[0])]) - entry[1]) <= tolerance, "\(tensor.name)[\(entry[0])]")
        }
        // A random sign projection of the difference has its norm as standard deviation: four of them.
        for (index, projection) in expected.projections.enumerated() {
            let seed = golden.seeds.signs + UInt64(index) << 32
            let signs = GoldenAdapter.signs(name: tensor.name, seed: seed, count: values.count)
            let product = zip(values, signs).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
            #expect(abs(product - projection) <= 4 * tolerance, "\(tensor.name), projection \(index)")
        }
    }
}
