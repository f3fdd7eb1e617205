import CAllocations
import Foundation
import LoRAFormats
import Testing

@testable import LoRAModel

extension KernelTests {
    @Suite("Gradients of a whole pass")
    struct TrainingPassTests {
        let samples = [
            Sample(count: 13, from: 2, seed: 1), Sample(count: 21, from: 15, seed: 2),
            Sample(count: 5, from: 1, seed: 3),
        ]

        func pass(
            _ model: BaseModel, _ adapter: AdapterParameters, _ pool: ThreadPool, dropout: Float = 0,
            checkpointing: Checkpointing = .off, compute: Compute = .f32, rows: Int = 64, memory: Int? = nil
        ) throws -> TrainingPass {
            try TrainingPass(
                model: model, adapter: adapter, pool: pool,
                plan: .init(
                    compute: compute, rows: rows, positions: rows, dropout: dropout, checkpointing: checkpointing,
                    memory: memory))
        }

        /// Compares entries and whole tensors of the gradient with central differences of the loss.
        ///
        /// A step of 2^-7 changes the loss by some 1e-3 to 1e-1; f32 logits of size 5 leave noise of about 1e-5 in a sum of 20
        /// losses, so a difference is good to 1e-5 / 2^-6 ≈ 6e-4, and the third derivative adds about as much.
        func expectDifferences(_ pass: TrainingPass, loss: () -> Double, gradients: [Float]) {
            let step: Float = 0x1p-7
            let values = pass.adapter.values
            func derivative(_ indices: Range<Int>, along direction: [Float]) -> Double {
                let kept = indices.map { values[$0] }
                for (index, own) in zip(indices, direction) { values[index] += step * own }
                let ahead = loss()
                for (index, (old, own)) in zip(indices, zip(kept, direction)) { values[index] = old - step * own }
                let behind = loss()
                for (index, old) in zip(indices, kept) { values[index] = old }
                return (ahead - behind) / (2 * Double(step))
            }
            var random = Numbers(99)
            for pair in pass.adapter.layout.pairs {
                for (name, range) in [
                    (pair.nameA, pair.offset..<pair.offsetB), (pair.nameB, pair.offsetB..<pair.offsetRowFactors),
                ] {
                    let own = Array(gradients[range])
                    let norm = own.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
                    #expect(norm > 1e-2, "\(name): the gradient must be there to be compared")
                    let whole = derivative(range, along: own.map { Float(Double($0) / norm) })
                    #expect(abs(whole - norm) <= 3e-3 + 5e-3 * norm, "\(name): \(norm), by differences \(whole)")
                    for _ in 0..<3 {
                        let index = range.lowerBound + Int(random.next() % UInt64(range.count))
                        let expected = derivative(index..<index + 1, along: [1])
                        let actual = Double(gradients[index])
                        #expect(
                            abs(actual - expected) <= 3e-3 + 5e-3 * abs(expected),
                            "\(name)[\(index - range.lowerBound)]: \(actual), by differences \(expected)")
                    }
                }
            }
        }

        @Test("They are the loss's differences, at every projection", arguments: [1, 2, 4], [4, 40])
        func differences(keyValueHeads: Int, rank: Int) throws {
            let model = try TinyModel(
                keyValueHeads: keyValueHeads, isTied: false, ropeFactors: [1, 1, 2, 3, 4, 8, 8, 8]
            )
            .make()
            try withPool(threads: 1) { pool in
                let pass = try pass(model, .random(model, rank: rank), pool)
                let batch = PackedBatch(samples)
                let (loss, gradients) = pass.lossAndGradients(batch)
                #expect(loss == pass.evaluate(batch))
                expectDifferences(pass, loss: { pass.evaluate(batch) }, gradients: gradients)
            }
        }

        @Test("So they are with dropout, whose backward drops what its forward dropped")
        func dropout() throws {
            let model = try TinyModel(isTied: false).make()
            try withPool(threads: 1) { pool in
                let pass = try pass(model, .random(model), pool, dropout: 0.4)
                let batch = PackedBatch(samples)
                let (_, gradients) = pass.lossAndGradients(batch, dropoutSeed: 7)
                expectDifferences(
                    pass, loss: { pass.lossAndGradients(batch, dropoutSeed: 7).loss }, gradients: gradients)
            }
        }

        @Test("Dropout depends on its seed, is off in evaluation, and p = 0 is none")
        func dropoutSeeds() throws {
            let model = try TinyModel().make()
            try withPool { pool in
                let adapter = AdapterParameters.random(model)
                let (dropping, plain) = (try pass(model, adapter, pool, dropout: 0.3), try pass(model, adapter, pool))
                let batch = PackedBatch(samples)
                let first = dropping.lossAndGradients(batch, dropoutSeed: 1)
                let other = dropping.lossAndGradients(batch, dropoutSeed: 2)
                #expect(first.loss != other.loss)
                #expect(dropping.lossAndGradients(batch, dropoutSeed: 1) == first)
                #expect(dropping.evaluate(batch) == plain.evaluate(batch))
                #expect(plain.lossAndGradients(batch, dropoutSeed: 1) == plain.lossAndGradients(batch, dropoutSeed: 2))
            }
        }

        @Test(
            "Checkpoints change no bit, with or without dropout", arguments: [0, 0.25] as [Float],
            Compute.allCases.filter(\.isSupported).flatMap { [($0, 4), ($0, 40)] })
        func checkpoints(dropout: Float, kind: (compute: Compute, rank: Int)) throws {
            let model = try TinyModel(type: .q8_0).make()
            try withPool { pool in
                let adapter = AdapterParameters.random(model, rank: kind.rank)
                let everything = TrainingPass.memory(
                    model.configuration, adapter.layout,
                    .init(compute: kind.compute, rows: 64, positions: 64, dropout: dropout), threads: 2)
                let passes = try [(.off, nil), (.on, nil), (.auto, everything - 1)].map {
                    (checkpointing: Checkpointing, memory: Int?) in
                    try pass(
                        model, adapter, pool, dropout: dropout, checkpointing: checkpointing, compute: kind.compute,
                        memory: memory)
                }
                #expect(passes.map(\.tape) == [.everything, .blockInputs, .attention])
                let batch = PackedBatch(samples)
                let expected = passes[0].lossAndGradients(batch, dropoutSeed: 3)
                for pass in passes {
                    // Twice, the second time with buffers full of the first.
                    for _ in 0..<2 { #expect(pass.lossAndGradients(batch, dropoutSeed: 3) == expected) }
                }
            }
        }

        @Test("A segment so long that it is cut on the way back", arguments: [0, 30])
        func longSegment(prefix: Int) throws {
            let model = try TinyModel().make()
            let long = Sample(count: 700, from: 680, seed: 4)
            try withPool { pool in
                let pass = try pass(model, .random(model), pool, rows: 800)
                var batch = PackedBatch(prefix: long.tokens[..<prefix])
                batch.append(tokens: long.tokens, supervised: long.supervised)
                let other = Sample(Array(long.tokens[..<prefix]) + tokens(20, seed: 9), from: prefix + 1)
                batch.append(tokens: other.tokens, supervised: other.supervised)
                let gradients = pass.lossAndGradients(batch).gradients
                expectDifferences(pass, loss: { pass.evaluate(batch) }, gradients: gradients)
            }
        }

        @Test(
            "A pass takes nothing from the heap",
            arguments: Compute.allCases.filter(\.isSupported).flatMap { [($0, 4), ($0, 40)] })
        func allocations(kind: (compute: Compute, rank: Int)) throws {
            let model = try TinyModel(type: .q4_1).make()
            try withPool { pool in
                let adapter = AdapterParameters.random(model, rank: kind.rank)
                for checkpointing in [Checkpointing.off, .on] {
                    let pass = try pass(
                        model, adapter, pool, checkpointing: checkpointing, compute: kind.compute, rows: 64)
                    var gradients = [Float](repeating: 0, count: adapter.layout.parameterCount)
                    let batch = PackedBatch(samples)
                    func run() { _ = pass.run(batch, gradients: &gradients, scale: 1, dropoutSeed: 0) }
                    run()
                    onEachThread(of: pool) { allocations_watch(1) }
                    let before = allocations_own()
                    run()
                    let after = allocations_own()
                    let array = [Float](repeating: 0, count: after + 1)
                    #expect(allocations_own() > after, "\(array.count) floats: the counter counts")
                    onEachThread(of: pool) { allocations_watch(0) }
                    #expect(after == before)
                }
            }
        }

        @Test("Memory decides about checkpoints on its own")
        func automatic() throws {
            let model = try TinyModel().make()
            let adapter = AdapterParameters.random(model)
            let plan = TrainingPass.Plan(compute: .f32, rows: 64, positions: 64)
            let bytes = TrainingPass.memory(model.configuration, adapter.layout, plan, threads: 2)
            try withPool { pool in
                for (memory, checkpoints) in [(bytes, false), (bytes - 1, true)] {
                    var plan = plan
                    plan.memory = memory
                    let pass = try TrainingPass(model: model, adapter: adapter, pool: pool, plan: plan)
                    #expect(pass.checkpoints == checkpoints)
                }
            }
        }

        @Test("Two threads and three lose what one does, up to the order of sums")
        func threads() throws {
            let model = try TinyModel(type: .q4_1).make()
            let adapter = AdapterParameters.random(model)
            let batch = PackedBatch(samples)
            let results = try [1, 2, 3].map { threads in
                try withPool(threads: threads) { try pass(model, adapter, $0).lossAndGradients(batch) }
            }
            for result in results.dropFirst() {
                #expect(abs(result.loss - results[0].loss) <= 1e-6 * results[0].loss)
                #expect(distance(result.gradients, results[0].gradients) < 1e-5)
            }
        }

        @Test("bf16 products give gradients near f32's", .enabled(if: Compute.bf16.isSupported), arguments: [4, 40])
        func bfloat16(rank: Int) throws {
            let model = try TinyModel(isTied: false, type: .bf16).make()
            try withPool { pool in
                let adapter = AdapterParameters.random(model, rank: rank)
                let batch = PackedBatch(samples)
                let expected = try pass(model, adapter, pool).lossAndGradients(batch)
                let actual = try pass(model, adapter, pool, compute: .bf16).lossAndGradients(batch)
                // Eight bits of mantissa: each product loses up to 2^-9 of its terms, a dozen products in a row.
                #expect(abs(actual.loss - expected.loss) <= 1e-2 * expected.loss)
                #expect(distance(actual.gradients, expected.gradients) < 0.05)
            }
        }

        @Test("With B = 0 the loss is the base's, and only B has gradients")
        func zeroB() throws {
            let model = try TinyModel().make()
            try withPool { pool in
                let none = AdapterParameters(layout: AdapterLayout(configuration: model.configuration) { _, _ in nil })
                let batch = PackedBatch(samples)
                let base = try pass(model, none, pool).evaluate(batch)
                let adapter = AdapterParameters.random(model, bound: 0)
                let pass = try pass(model, adapter, pool)
                #expect(pass.evaluate(batch) == base)
                let (loss, gradients) = pass.lossAndGradients(batch)
                #expect(loss == base)
                for pair in adapter.layout.pairs {
                    #expect(gradients[pair.offset..<pair.offsetB].allSatisfy { $0 == 0 })
                    #expect(gradients[pair.offsetB..<pair.end].contains { $0 != 0 })
                }
            }
        }

        @Test("An adapter on some blocks and projections gets the gradients that a full one gets there")
        func partial() throws {
            let model = try TinyModel(blocks: 3).make()
            try withPool { pool in
                let full = AdapterParameters.random(model, bound: 0)
                let batch = PackedBatch(samples)
                let expected = try pass(model, full, pool).lossAndGradients(batch).gradients
                for (blocks, targets) in [
                    (1...1, [TargetModule.downProjection]), (2...2, [.queryProjection, .outputProjection]),
                    (0...1, [.valueProjection, .upProjection]),
                ] {
                    let layout = AdapterLayout(configuration: model.configuration) { block, target in
                        blocks.contains(block) && targets.contains(target) ? (4, 2) : nil
                    }
                    let part = AdapterParameters(layout: layout)
                    part.initialize(seed: 1)
                    let actual = try pass(model, part, pool).lossAndGradients(batch).gradients
                    for pair in layout.pairs {
                        let whole = try #require(full.layout.pair(block: pair.block, pair.target))
                        let difference = distance(
                            Array(actual[pair.offset..<pair.end]), Array(expected[whole.offset..<whole.end]))
                        #expect(difference < 1e-5, "\(pair.nameA)")
                    }
                }
            }
        }
    }
}
