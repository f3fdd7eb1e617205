import CKernels
import Foundation
import LoRAFormats
import Testing

@testable import LoRAModel

extension AdapterParameters {
    /// As `random`, with magnitudes that are the norms of W's adapted rows times 1 plus uniform in ±`spread`.
    static func randomDoRA(
        _ model: BaseModel, rank: Int = 4, scale: Float = 2, targets: [TargetModule] = TargetModule.allCases,
        seed: UInt64 = 1, bound: Float = 0.1, spread: Float = 0.25
    ) -> AdapterParameters {
        let plain = random(model, rank: rank, scale: scale, targets: targets, seed: seed, bound: bound)
        let layout = AdapterLayout(configuration: model.configuration, rowFactors: .magnitudes) { _, target in
            targets.contains(target) ? (rank, scale) : nil
        }
        let adapter = AdapterParameters(layout: layout)
        for (pair, source) in zip(layout.pairs, plain.layout.pairs) {
            (adapter.values + pair.offset).update(from: plain.values + source.offset, count: source.count)
        }
        adapter.initializeMagnitudes(for: model)
        for pair in layout.pairs {
            let factors = TinyModel.uniform(pair.nameMagnitudes, seed: seed, count: pair.outputs, bound: spread)
            for row in 0..<pair.outputs { adapter.values[pair.offsetRowFactors + row] *= 1 + factors[row] }
        }
        return adapter
    }

    /// W' - W (out, in) by the definition, in double precision.
    func change(_ pair: LowRankPair, _ model: BaseModel) -> [Double] {
        let W = model.matrix(pair.target, block: pair.block)
        let (A, B) = (matrixA(pair), matrixB(pair))
        var row = [Float](repeating: 0, count: pair.inputs)
        return (0..<pair.outputs).flatMap { output -> [Double] in
            W.expand(&row, row: output)
            let adapted = row.indices.map { column in
                Double(row[column]) + Double(pair.scale)
                    * (0..<pair.rank).reduce(0.0) {
                        $0 + Double(B[output * pair.rank + $1]) * Double(A[$1 * pair.inputs + column])
                    }
            }
            let gain =
                pair.rowFactors == .none
                ? 1 : Double(rowFactors(pair)[output]) / adapted.reduce(0) { $0 + $1 * $1 }.squareRoot()
            return zip(adapted, row).map { gain * $0 - Double($1) }
        }
    }
}

extension KernelTests {
    @Suite("DoRA")
    struct DoRATests {
        let model: BaseModel
        let samples = TrainingPassTests().samples

        init() throws { model = try TinyModel(isTied: false, type: .q8_0).make() }

        func pass(
            _ adapter: AdapterParameters, _ pool: ThreadPool, dropout: Float = 0,
            checkpointing: Checkpointing = .off, compute: Compute = .f32
        ) throws -> TrainingPass {
            try TrainingPass(
                model: model, adapter: adapter, pool: pool,
                plan: .init(
                    compute: compute, rows: 64, positions: 64, dropout: dropout, checkpointing: checkpointing))
        }

        // MARK: Norms

        @Test(
            "Norms are those of the adapted rows, also where B A takes a row of W almost away",
            arguments: Variant.all)
        func norms(variant: Variant) throws {
            try variant.use {
                let plain = AdapterParameters.randomDoRA(model, rank: 4, scale: 2)
                for pair in plain.layout.pairs {
                    // Row 3 is left with a thousandth of W's, row 5 with nothing.
                    let A = plain.values + pair.offset
                    for (rank, row) in [(0, 3), (1, 5)] {
                        model.matrix(pair.target, block: pair.block).expand(A + rank * pair.inputs, row: row)
                        for column in 0..<4 { plain.values[pair.offsetB + row * 4 + column] = 0 }
                    }
                    plain.values[pair.offsetB + 3 * 4] = -0.999 / 2
                    plain.values[pair.offsetB + 5 * 4 + 1] = -1 / 2
                }
                plain.initializeMagnitudes(for: model)
                for pair in plain.layout.pairs {
                    let W = model.matrix(pair.target, block: pair.block)
                    var row = [Float](repeating: 0, count: pair.inputs)
                    for output in 0..<pair.outputs {
                        W.expand(&row, row: output)
                        let B = plain.matrixB(pair) + output * pair.rank
                        let squares = row.indices.reduce(0.0) { sum, column in
                            let added = (0..<pair.rank).reduce(0.0) {
                                $0 + Double(B[$1]) * Double(plain.matrixA(pair)[$1 * pair.inputs + column])
                            }
                            let value = Double(row[column]) + Double(pair.scale) * added
                            return sum + value * value
                        }
                        let (norm, expected) = (Double(plain.rowFactors(pair)[output]), squares.squareRoot())
                        #expect(abs(norm - expected) <= 1e-4 * expected, "\(pair.moduleName) \(output)")
                    }
                }
            }
        }

        // MARK: Training

        /// The norms count as constants, so the differences are taken with the gains held: magnitudes follow the norms.
        @Test("Gradients are the loss's differences, with dropout too", arguments: [0, 0.4] as [Float])
        func differences(dropout: Float) throws {
            let adapter = AdapterParameters.randomDoRA(model)
            try withPool(threads: 1) { pool in
                let pass = try pass(adapter, pool, dropout: dropout)
                let batch = PackedBatch(samples)
                let (_, gradients) = pass.lossAndGradients(batch, dropoutSeed: 7)
                let gains = gains(adapter)
                TrainingPassTests().expectDifferences(
                    pass,
                    loss: {
                        hold(gains, adapter)
                        return pass.lossAndGradients(batch, dropoutSeed: 7).loss
                    }, gradients: gradients)
                hold(gains, adapter)
                for pair in adapter.layout.pairs {
                    let range = pair.offsetRowFactors..<pair.end
                    let norm = gradients[range].reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
                    let kept = range.map { adapter.values[$0] }
                    let loss = { (step: Float) in
                        for (index, old) in zip(range, kept) {
                            adapter.values[index] = old + step * gradients[index] / Float(norm)
                        }
                        return pass.lossAndGradients(batch, dropoutSeed: 7).loss
                    }
                    let expected = (loss(0x1p-7) - loss(-0x1p-7)) / 0x1p-6
                    _ = loss(0)
                    #expect(norm > 1e-2)
                    #expect(abs(norm - expected) <= 3e-3 + 5e-3 * norm, "\(pair.nameMagnitudes): \(norm), \(expected)")
                }
            }
        }

        private func gains(_ adapter: AdapterParameters) -> [Float] {
            let resolved = adapter.resolved(for: model)
            return resolved.layout.pairs.flatMap { pair in
                Array(UnsafeBufferPointer(start: resolved.rowFactors(pair), count: pair.outputs))
            }
        }

        /// Gives the adapter the magnitudes that have `gains`.
        private func hold(_ gains: [Float], _ adapter: AdapterParameters) {
            adapter.initializeMagnitudes(for: model)
            var next = 0
            for pair in adapter.layout.pairs {
                for row in 0..<pair.outputs { adapter.values[pair.offsetRowFactors + row] *= gains[next + row] }
                next += pair.outputs
            }
        }

        @Test(
            "Checkpoints and threads change no bit", arguments: [0, 0.25] as [Float],
            Compute.allCases.filter(\.isSupported))
        func checkpoints(dropout: Float, compute: Compute) throws {
            let adapter = AdapterParameters.randomDoRA(model, rank: 40)
            let batch = PackedBatch(samples)
            try withPool { pool in
                let whole = try pass(adapter, pool, dropout: dropout, compute: compute)
                let short = try pass(adapter, pool, dropout: dropout, checkpointing: .on, compute: compute)
                let expected = whole.lossAndGradients(batch, dropoutSeed: 3)
                #expect(short.lossAndGradients(batch, dropoutSeed: 3) == expected)
                #expect(expected.gradients.allSatisfy { $0.isFinite })
                #expect(whole.evaluate(batch) == short.evaluate(batch))
            }
        }

        @Test("bf16 products give gradients near f32's", .enabled(if: Compute.bf16.isSupported))
        func bfloat16() throws {
            let adapter = AdapterParameters.randomDoRA(model)
            let batch = PackedBatch(samples)
            try withPool { pool in
                let exact = try pass(adapter, pool).lossAndGradients(batch)
                let rounded = try pass(adapter, pool, compute: .bf16).lossAndGradients(batch)
                #expect(abs(exact.loss - rounded.loss) < 0.02 * exact.loss)
                #expect(distance(rounded.gradients, exact.gradients) < 0.1)
            }
        }

        @Test("With B zero and the first magnitudes it is the base", arguments: Compute.allCases.filter(\.isSupported))
        func initial(compute: Compute) throws {
            let adapter = AdapterParameters.randomDoRA(model, bound: 0, spread: 0)
            let none = AdapterParameters(layout: AdapterLayout(configuration: model.configuration) { _, _ in nil })
            let batch = PackedBatch(samples)
            try withPool { pool in
                let base = try pass(none, pool, compute: compute).evaluate(batch)
                let loss = try pass(adapter, pool, compute: compute).evaluate(batch)
                // f32 rounding of the gains; in bf16 it now and then tips a rounding of an activation.
                #expect(abs(loss - base) <= (compute == .f32 ? 1e-6 : 1e-3) * base)
            }
        }

        // MARK: Inference

        @Test("The passes of training and inference compute the same losses")
        func inference() throws {
            let adapter = AdapterParameters.randomDoRA(model)
            let sample = Sample(count: 30, from: 1, seed: 4)
            try withPool { pool in
                let inference = try InferencePass(
                    model: model, pool: pool, compute: .f32, capacity: 64, positions: 64)
                let rows = inference.logits(sample.tokens, adapter: adapter.resolved(for: model, pool: pool))
                let loss = try pass(adapter, pool).evaluate(PackedBatch([sample]))
                let expected = zip(rows, sample.tokens.dropFirst()).reduce(0.0) { sum, next in
                    sum + log(next.0.reduce(0.0) { $0 + exp(Double($1)) }) - Double(next.0[Int(next.1)])
                }
                #expect(abs(loss - expected) < 1e-5 * expected)
            }
        }

        @Test("Decoding gives each sequence the same bits, whoever else is in the step", arguments: [1, 40])
        func mix(count: Int) throws {
            let adapters: [AdapterParameters?] = [
                .randomDoRA(model, seed: 1).resolved(for: model), nil, .random(model, rank: 9, seed: 2),
                .randomDoRA(model, rank: 2, targets: [.queryProjection, .downProjection], seed: 3).resolved(for: model),
            ]
            try withPool { pool in
                let pass = try InferencePass(model: model, pool: pool, compute: .f32, capacity: 256, positions: 64)
                let step = { (indices: [Int]) in
                    pass.logits(
                        indices.map {
                            .init(
                                cache: KeyValueCache(configuration: model.configuration),
                                tokens: tokens(count, seed: UInt64($0)),
                                adapter: adapters[$0].map(PackedAdapter.init), wanted: .last)
                        })
                }
                let together = step([0, 1, 2, 3])
                #expect(Set(together.map { $0[0] }).count == 4)
                for index in 0..<4 {
                    if count == 1 {
                        #expect(step([index])[0] == together[index])
                    } else {
                        #expect(largestDifference(step([index])[0], together[index]) < 5e-5)
                    }
                }
            }
        }

        @Test("Resolved, it adds to each row what the definition says, times its weight")
        func change() throws {
            let adapter = AdapterParameters.randomDoRA(model)
            let resolved = adapter.resolved(for: model)
            #expect(resolved.layout.rowFactors == .gains)
            #expect(resolved.resolved(for: model) === resolved)
            try expectChange(resolved, [(adapter, 1)], weight: 0.5)
        }

        @Test("A combination adds the weighted sum of what its parts add, with magnitudes or without")
        func combining() throws {
            let parts: [(adapter: AdapterParameters, weight: Float)] = [
                (.randomDoRA(model, rank: 3, seed: 1), 0.75),
                (.random(model, rank: 5, scale: 0.5, targets: [.queryProjection, .upProjection], seed: 2), -2),
                (.randomDoRA(model, rank: 2, targets: [.queryProjection], seed: 3), 1),
            ]
            let sum = AdapterParameters.combining(parts, base: model)
            #expect(sum.layout.pair(block: 0, .queryProjection)?.rank == 10)
            try expectChange(sum, parts, weight: 1)
            let one = AdapterParameters.combining([parts[0]], base: model)
            try expectChange(one, [parts[0]], weight: 1)
        }

        @Test("A merged base computes what base and adapters do", arguments: [false, true])
        func merging(isMixed: Bool) throws {
            try MergeBench.with { bench in
                let adapter = AdapterParameters.randomDoRA(bench.base)
                let file = try AdapterFile(
                    configuration: .init(rank: 4, alpha: 8, targetModules: .allLinear, decomposesWeights: true),
                    record: .init(domain: "d", baseFingerprint: nil, rank: 4, alpha: 8, targets: []),
                    tensors: adapter.tensors(configuration: bench.base.configuration, type: .f32))
                let own = Merge.Source(path: "d.lora", file: file, weight: isMixed ? 0.5 : 1)
                let merge = try bench.merge(isMixed ? [own, bench.source(seed: 2)] : [own])
                try withPool { pool in
                    _ = try merge.write(to: bench.path("merged.bin"), pool: pool)
                    let text = tokens(20, seed: 1)
                    let logits = { (model: BaseModel, adapter: AdapterParameters?) in
                        try InferencePass(model: model, pool: pool, compute: .f32, capacity: 32, positions: 32)
                            .logits(text, adapter: adapter)
                    }
                    let merged = try logits(BaseModel(path: bench.path("merged.bin")), nil)
                    let expected = try logits(bench.base, .combining(merge.parts, base: bench.base, pool: pool))
                    let range = expected.joined().reduce(0) { max($0, abs($1)) }
                    #expect(largestDifference(merged, expected) < 1e-5 * range)
                    #expect(largestDifference(merged, try logits(bench.base, nil)) > 0.01 * range)
                }
            }
        }

        private func expectChange(
            _ actual: AdapterParameters, _ parts: [(adapter: AdapterParameters, weight: Float)], weight: Float
        ) throws {
            for pair in actual.layout.pairs {
                let W = model.matrix(pair.target, block: pair.block)
                let rows = 3..<min(pair.outputs, 20)
                var base = [Float](repeating: 0, count: rows.count * pair.inputs)
                base.withUnsafeMutableBufferPointer { buffer in
                    guard let out = buffer.baseAddress else { return }
                    for (index, row) in rows.enumerated() { W.expand(out + index * pair.inputs, row: row) }
                }
                var out = [Float](repeating: 0.125, count: base.count)
                actual.addChange(of: pair, to: &out, base: base, rows: rows, weight: weight)
                var expected = [Double](repeating: 0.125, count: base.count)
                for (adapter, part) in parts {
                    guard let own = adapter.layout.pair(block: pair.block, pair.target) else { continue }
                    let change = adapter.change(own, model)[
                        rows.lowerBound * pair.inputs..<rows.upperBound * pair.inputs]
                    for (index, value) in change.enumerated() { expected[index] += Double(weight * part) * value }
                }
                #expect(error(out, expected) < 2e-6, "\(pair.moduleName)")
            }
        }

        // MARK: Files

        private func file(_ adapter: AdapterParameters, type: SafetensorsType) throws -> AdapterFile {
            try AdapterFile(
                configuration: AdapterConfiguration(
                    rank: 4, alpha: 8, targetModules: .allLinear, decomposesWeights: true),
                record: .init(domain: "d", baseFingerprint: nil, rank: 4, alpha: 8, targets: []),
                tensors: adapter.tensors(configuration: model.configuration, type: type))
        }

        @Test(
            "A file brings it back bit for bit in f32, and its magnitudes always",
            arguments: [SafetensorsType.f32, .bf16])
        func roundTrip(type: SafetensorsType) throws {
            let adapter = AdapterParameters.randomDoRA(model)
            let again = try AdapterParameters(file: file(adapter, type: type), configuration: model.configuration)
            #expect(again.layout == adapter.layout)
            if type == .f32 { #expect(again.array == adapter.array) }
            for pair in adapter.layout.pairs {
                let range = pair.offsetRowFactors..<pair.end
                #expect(again.array[range] == adapter.array[range])
                let tensors = try adapter.tensors(configuration: model.configuration, type: type)
                let inFile = try #require(tensors.first { $0.name == pair.nameMagnitudes })
                    .bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
                let heads = [.queryProjection: 4, .keyProjection: 2][pair.target]
                let expected = heads.map { TinyModel.permuted(inFile, heads: $0, columns: 1) } ?? inFile
                #expect(expected == Array(adapter.array[range]))
                if heads != nil { #expect(inFile != expected) }
            }
        }

        @Test("Magnitudes that are missing, surplus or misshapen are named")
        func misfits() throws {
            let adapter = AdapterParameters.randomDoRA(model)
            var tensors = try adapter.tensors(configuration: model.configuration, type: .f32)
            let name = adapter.layout.pairs[0].nameMagnitudes
            let other = adapter.layout.pairs[1].nameMagnitudes
            tensors.removeAll { $0.name == name || $0.name == other }
            tensors.append(try NamedTensor(name: other, type: .f32, shape: [2], elements: [1, 2]))
            for decomposes in [true, false] {
                let file = try AdapterFile(
                    configuration: AdapterConfiguration(
                        rank: 4, alpha: 8, targetModules: .allLinear, decomposesWeights: decomposes),
                    record: .init(domain: "d", baseFingerprint: nil, rank: 4, alpha: 8, targets: []), tensors: tensors)
                let text = message { _ = try AdapterParameters(file: file, configuration: model.configuration) }
                if decomposes {
                    #expect(text.contains("missing \(name)"))
                    #expect(text.contains("\(other) has shape [2], expected [32]"))
                } else {
                    #expect(text.contains("unexpected \(other)"))
                }
            }
        }
    }
}
