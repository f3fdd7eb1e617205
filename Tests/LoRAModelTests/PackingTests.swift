import LoRAFormats
import Testing

@testable import LoRAModel

extension KernelTests {
    @Suite("Packed examples")
    struct PackingTests {
        let model: BaseModel
        let adapter: AdapterParameters

        init() throws {
            model = try TinyModel(type: .q8_0).make()
            adapter = .random(model)
        }

        func withPass<Result>(rows: Int = 128, _ body: (TrainingPass) throws -> Result) throws -> Result {
            try withPool { pool in
                try body(
                    TrainingPass(
                        model: model, adapter: adapter, pool: pool,
                        plan: .init(compute: .f32, rows: rows, positions: 64)))
            }
        }

        @Test("Rows, positions and targets of a batch")
        func batch() {
            var batch = PackedBatch()
            batch.append(tokens: [5, 6, 7, 8], supervised: [true, false, true, false])
            batch.append(tokens: [9], supervised: [true])
            batch.append(tokens: [], supervised: [])
            batch.append(tokens: [1, 2], supervised: [false, false])
            batch.append(tokens: [3, 4, 5], supervised: [false, true, true])
            #expect(batch.tokens == [5, 6, 3, 4])
            #expect(batch.positions == [0, 1, 0, 1])
            #expect(batch.segments == [.init(start: 0, count: 2, prefix: 0), .init(start: 2, count: 2, prefix: 0)])
            #expect(batch.targetRows == [1, 2, 3])
            #expect(batch.targets == [7, 4, 5])
        }

        @Test("A row never predicts a token of another example")
        func borders() {
            let samples = (1...20).map { Sample(count: $0, from: $0 % 3, seed: UInt64($0)) }
            let batch = PackedBatch(samples)
            var expected: [Int32] = []
            for sample in samples {
                expected += sample.tokens.indices.dropFirst().filter { sample.supervised[$0] }.map { sample.tokens[$0] }
            }
            #expect(batch.targets == expected)
            for (row, target) in zip(batch.targetRows, batch.targets) {
                let segment = batch.segments.last { $0.start <= row }
                let isLast = segment.map { Int(row) == $0.start + $0.count - 1 } ?? true
                if !isLast { #expect(batch.tokens[Int(row) + 1] == target) }
            }
        }

        @Test("Packed, split or one by one, loss and gradients are the same sums")
        func sums() throws {
            let samples = (0..<6).map { Sample(count: 9 + 7 * $0, from: 1 + 3 * $0, seed: UInt64($0)) }
            try withPass(rows: 200) { pass in
                let whole = pass.lossAndGradients(PackedBatch(samples), scale: 0.125)
                for size in [1, 2, 4] {
                    var gradients = [Float](repeating: 0, count: adapter.layout.parameterCount)
                    var loss = 0.0
                    for start in stride(from: 0, to: samples.count, by: size) {
                        let batch = PackedBatch(Array(samples[start..<min(start + size, samples.count)]))
                        loss += pass.run(batch, gradients: &gradients, scale: 0.125, dropoutSeed: 0)
                    }
                    // The same terms in another order.
                    #expect(abs(loss - whole.loss) <= 1e-6 * whole.loss)
                    #expect(distance(gradients, whole.gradients) < 1e-5)
                }
            }
        }

        @Test("A prefix that examples share is computed once: same loss, same gradients", arguments: [1, 2, 5, 9])
        func sharedPrefix(count: Int) throws {
            let prefix = Sample(count: 21, from: 21, seed: 99).tokens
            let samples = (0..<count).map { index in
                let rest = Sample(count: 8 + 3 * index, from: 0, seed: UInt64(index))
                return Sample(prefix + rest.tokens, from: prefix.count + 1 + index % 3)
            }
            var shared = PackedBatch(prefix: prefix[...])
            for sample in samples { shared.append(tokens: sample.tokens, supervised: sample.supervised) }
            let apart = PackedBatch(samples)
            #expect(shared.tokens.count == apart.tokens.count - (count - 1) * prefix.count)
            #expect(shared.targets == apart.targets)
            try withPass(rows: 512) { pass in
                let (one, other) = (pass.lossAndGradients(apart), pass.lossAndGradients(shared))
                // The same terms in another order.
                #expect(abs(one.loss - other.loss) <= 1e-6 * one.loss)
                #expect(distance(one.gradients, other.gradients) < 1e-5)
                #expect(pass.evaluate(shared) == other.loss)
                // Sums into the prefix start from zero each time.
                #expect(pass.lossAndGradients(shared) == other)
            }
        }

        @Test("The scale multiplies gradients and nothing else")
        func scale() throws {
            try withPass { pass in
                let batch = PackedBatch([Sample(count: 20, from: 3, seed: 1)])
                let (one, half) = (pass.lossAndGradients(batch, scale: 1), pass.lossAndGradients(batch, scale: 0.5))
                #expect(one.loss == half.loss)
                // A power of two is exact in every product and sum.
                #expect(half.gradients == one.gradients.map { $0 / 2 })
            }
        }

        @Test("Nothing leaks from one example to another: losses add up exactly")
        func leaks() throws {
            // A handful of f32 losses of like size sum exactly in double precision, so that what one example adds must not
            // change by a bit when the other changes. Equal lengths keep products' shapes.
            let (a, b) = (
                (0..<2).map { Sample(count: 17, from: 4, seed: 10 + $0) },
                (0..<2).map { Sample(count: 11, from: 2, seed: 20 + $0) }
            )
            try withPass { pass in
                func loss(_ first: Sample, _ second: Sample) -> Double { pass.evaluate(PackedBatch([first, second])) }
                #expect(loss(a[0], b[0]) != loss(a[1], b[0]))
                #expect(loss(a[0], b[0]) != loss(a[0], b[1]))
                #expect(loss(a[0], b[0]) - loss(a[1], b[0]) == loss(a[0], b[1]) - loss(a[1], b[1]))
                #expect(loss(b[0], a[0]) - loss(b[1], a[0]) == loss(b[0], a[1]) - loss(b[1], a[1]))
            }
        }

        @Test("Tokens after the last supervised one change nothing")
        func trailing() throws {
            try withPass { pass in
                var long = Sample(count: 30, from: 4, seed: 1)
                for index in 18..<30 { long.supervised[index] = false }
                let short = Sample(Array(long.tokens[..<18]), from: 4)
                #expect(pass.lossAndGradients(PackedBatch([long])) == pass.lossAndGradients(PackedBatch([short])))
            }
        }

        @Test("Rows left over from a larger batch do not matter")
        func leftovers() throws {
            let small = PackedBatch([Sample(count: 7, from: 1, seed: 1)])
            let large = PackedBatch([Sample(count: 64, from: 1, seed: 2), Sample(count: 60, from: 1, seed: 3)])
            try withPass { pass in
                let before = pass.lossAndGradients(small)
                _ = pass.lossAndGradients(large)
                #expect(pass.lossAndGradients(small) == before)
                #expect(
                    pass.lossAndGradients(PackedBatch()) == (0, [Float](repeating: 0, count: before.gradients.count)))
            }
        }

        @Test("More targets than the loss takes rows at a time")
        func chunks() throws {
            let count = LossHead.maximumRows + 40
            let samples = (0..<10).map { Sample(count: count / 10 + 1, from: 1, seed: UInt64($0)) }
            try withPass(rows: count + 10) { pass in
                let whole = pass.lossAndGradients(PackedBatch(samples))
                let parts = samples.map { pass.lossAndGradients(PackedBatch([$0])) }
                #expect(abs(whole.loss - parts.reduce(0) { $0 + $1.loss }) <= 1e-6 * whole.loss)
                let sum = whole.gradients.indices.map { index in parts.reduce(Float(0)) { $0 + $1.gradients[index] } }
                #expect(distance(whole.gradients, sum) < 1e-5)
            }
        }
    }
}
