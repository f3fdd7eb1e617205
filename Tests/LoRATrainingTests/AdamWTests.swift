import LoRAModel
import Testing

@testable import LoRATraining

@Suite("AdamW")
struct AdamWTests {
    /// `Goldens/adamw.json`, written by `Scripts/adamw_golden.py`.
    struct Golden: Decodable {
        let count, steps: Int
        let maximumNorm: Double
        let weightDecays: [Float]
        let parameters: [[Double]]
    }

    @Test("Ten steps equal torch.optim.AdamW's, with and without weight decay", arguments: [0, 1], [1, 2])
    func torch(variant: Int, threads: Int) throws {
        let golden = try TestFiles.golden("adamw.json", as: Golden.self)
        let optimizer = AdamW(count: golden.count, weightDecay: golden.weightDecays[variant])
        var values = GoldenAdapter.uniform(name: "parameters", seed: 0, count: golden.count, bound: 1)
        let initial = values
        let pool = ThreadPool(count: threads)
        defer { pool.shutdown() }
        for step in 0..<golden.steps {
            let gradients = GoldenAdapter.uniform(
                name: "gradients \(step)", seed: 0, count: golden.count, bound: step.isMultiple(of: 2) ? 0.1 : 1)
            let norm = gradients.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
            optimizer.step(
                &values, gradients, gradientScale: Float(min(1, golden.maximumNorm / (norm + 1e-6))),
                learningRate: 0.02 * (1 - Float(step) / Float(golden.steps)), pool: pool)
        }
        #expect(optimizer.steps == golden.steps)
        // Ten steps of up to 0.02, each with f32's 1e-7 and with beta2's rounding (1e-5 of 1 - beta2, which cancels but for
        // what PyTorch has in double precision).
        for (value, expected) in zip(values, golden.parameters[variant]) {
            #expect(abs(Double(value) - expected) < 2e-6)
        }
        #expect(zip(values, initial).allSatisfy { abs($0 - $1) > 1e-4 })
    }
}
