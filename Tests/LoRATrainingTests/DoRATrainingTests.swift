import Foundation
import LoRAFormats
import LoRAModel
import Testing

@testable import LoRATraining

/// Training with magnitudes against PyTorch and PEFT on the real base: `Scripts/dora_golden.py` made the numbers.
@Suite("Parity of DoRA with PEFT", .serialized)
struct DoRATrainingTests {
    struct Golden: Decodable {
        struct Step: Decodable {
            let loss, gradientNorm: Double
        }
        let rank, batchSize: Int
        let alpha, learningRate, warmup, weightDecay: Double
        let targets: [String]
        let run: [Step]
        /// The first values of some initial magnitudes.
        let magnitudes: [String: [Double]]
    }

    @Test("Initial magnitudes are the norms, and the first losses equal PEFT's to 1e-3")
    func losses() throws {
        let golden = try TestFiles.golden("peft_dora.json", as: Golden.self)
        let base = try BaseModel(path: TestFiles.base)
        let configuration = AdapterConfiguration(
            rank: golden.rank, alpha: golden.alpha, targetModules: .names(golden.targets), decomposesWeights: true)
        let pool = ThreadPool(count: 2)
        defer { pool.shutdown() }
        let adapter = AdapterParameters(
            layout: AdapterLayout(configuration: base.configuration, matcher: try AdapterModuleMatcher(configuration)))
        adapter.initialize(seed: 0)
        adapter.initializeMagnitudes(for: base, pool: pool)
        // `initialize` draws A from the same streams as the script.
        let tensors = try adapter.tensors(configuration: base.configuration, type: .f32)
        for (name, expected) in golden.magnitudes {
            let tensor = try #require(tensors.first { $0.name == name })
            let values = tensor.bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
            for (value, own) in zip(values, expected) { #expect(abs(Double(value) - own) <= 1e-5 * own, "\(name)") }
        }
        let pass = try TrainingPass(
            model: base, adapter: adapter, pool: pool, plan: .init(compute: .f32, rows: 1024, positions: 512))
        let trainer = Trainer(
            pass: pass, pool: pool, weightDecay: Float(golden.weightDecay), maximumGradientNorm: 1, seed: 0)
        let schedule = Schedule(
            course: .linear, peak: golden.learningRate, warmupFraction: golden.warmup, stepCount: golden.run.count)
        let encoder = ExampleEncoder(
            tokenizer: try TestBase.tokenizer.get(), format: try TestBase.format.get(), maximumLength: 2048)
        let examples = try Dataset(path: TestFiles.smartHome.appending(path: "train.jsonl").path, encoder: encoder)
            .examples
        for (step, expected) in golden.run.enumerated() {
            let batch = Array(examples[step * golden.batchSize..<(step + 1) * golden.batchSize])
            let report = try trainer.step(batch, learningRate: schedule.learningRate(at: step))
            #expect(abs(report.loss - expected.loss) <= 1e-3 * expected.loss, "step \(step)")
            #expect(abs(report.gradientNorm - expected.gradientNorm) <= 1e-2 * expected.gradientNorm, "step \(step)")
        }
    }
}
