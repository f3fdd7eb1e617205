import Foundation
import Testing

@testable import LoRAModel

extension KernelTests {
    /// Gradients of functions of the targets' losses, as preference objectives have them.
    @Suite("Gradients of functions of the losses")
    struct LossFunctionTests {
        let samples = [
            Sample(count: 13, from: 2, seed: 1), Sample(count: 21, from: 15, seed: 2),
            Sample(count: 5, from: 1, seed: 3),
        ]

        func pass(
            _ model: BaseModel, _ adapter: AdapterParameters, _ pool: ThreadPool, compute: Compute = .f32,
            rows: Int = 64
        ) throws -> TrainingPass {
            try TrainingPass(
                model: model, adapter: adapter, pool: pool, plan: .init(compute: compute, rows: rows, positions: 64))
        }

        func gradients(
            _ pass: TrainingPass, _ batch: PackedBatch, _ differentiate: (UnsafeMutableBufferPointer<Float>) -> Void
        ) -> [Float] {
            var gradients = [Float](repeating: 0, count: pass.adapter.layout.parameterCount)
            pass.run(batch, gradients: &gradients, dropoutSeed: 0, differentiate: differentiate)
            return gradients
        }

        @Test(
            "The sum's are those of one scale for all, bit for bit", arguments: Compute.allCases.filter(\.isSupported))
        func sum(compute: Compute) throws {
            let model = try TinyModel().make()
            try withPool { pool in
                let pass = try pass(model, .random(model), pool, compute: compute)
                let batch = PackedBatch(samples)
                let expected = pass.lossAndGradients(batch, scale: 0.25)
                var losses: [Float] = []
                let actual = gradients(pass, batch) { values in
                    losses = Array(values)
                    values.update(repeating: 0.25)
                }
                #expect(actual == expected.gradients)
                #expect(losses.count == batch.targets.count)
                #expect(losses.reduce(0.0) { $0 + Double($1) } == expected.loss)
                #expect(pass.losses(batch) == losses)
            }
        }

        @Test("Each target has its own factor, also where targets are taken in parts")
        func factors() throws {
            let model = try TinyModel().make()
            let samples = (0..<10).map { Sample(count: 60, from: 1, seed: UInt64($0)) }
            try withPool { pool in
                let adapter = AdapterParameters.random(model)
                let pass = try pass(model, adapter, pool, rows: 640)
                let batch = PackedBatch(samples)
                #expect(batch.targets.count > LossHead.maximumRows)
                let factor = { (target: Int) in Float(target % 7) - 2.5 }
                let whole = gradients(pass, batch) { losses in
                    for target in losses.indices { losses[target] = factor(target) }
                }
                var parts = [Float](repeating: 0, count: adapter.layout.parameterCount)
                var first = 0
                for sample in samples {
                    let part = PackedBatch([sample])
                    pass.run(part, gradients: &parts, dropoutSeed: 0) { losses in
                        for target in losses.indices { losses[target] = factor(first + target) }
                    }
                    first += part.targets.count
                }
                // The same sums in another order; their signs cancel.
                #expect(distance(whole, parts) < 1e-4)
                let alone = samples.flatMap { pass.losses(PackedBatch([$0])) }
                #expect(zip(pass.losses(batch), alone).allSatisfy { abs($0 - $1) < 1e-4 })
            }
        }

        @Test("They are the differences of a function that is no sum")
        func differences() throws {
            let model = try TinyModel(isTied: false).make()
            try withPool(threads: 1) { pool in
                let adapter = AdapterParameters.random(model)
                let pass = try pass(model, adapter, pool)
                let batch = PackedBatch(samples)
                // The logistic loss of a difference of two sums, the last loss squared beside it.
                func value(_ losses: [Float]) -> Double {
                    let difference = losses[..<10].reduce(0.0) { $0 + Double($1) } * 0.1 - Double(losses[12])
                    return log1p(exp(difference)) + pow(Double(losses[losses.count - 1]), 2)
                }
                let gradients = gradients(pass, batch) { values in
                    let losses = Array(values)
                    let difference = losses[..<10].reduce(0.0) { $0 + Double($1) } * 0.1 - Double(losses[12])
                    let slope = Float(1 / (1 + exp(-difference)))
                    values.update(repeating: 0)
                    for target in 0..<10 { values[target] = 0.1 * slope }
                    values[12] = -slope
                    values[losses.count - 1] = 2 * losses[losses.count - 1]
                }
                let norm = gradients.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
                let kept = adapter.array
                func along(_ step: Double) -> Double {
                    for index in kept.indices {
                        adapter.values[index] = kept[index] + Float(step * Double(gradients[index]) / norm)
                    }
                    return value(pass.losses(batch))
                }
                // A central difference along the gradient itself: noise of 1e-5 over 2^-6, and the third derivative.
                let slope = (along(0x1p-7) - along(-0x1p-7)) / 0x1p-6
                #expect(norm > 0.1)
                #expect(abs(slope - norm) <= 3e-3 + 5e-3 * norm, "\(norm), by differences \(slope)")
            }
        }
    }
}
