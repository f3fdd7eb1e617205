import Foundation
import LoRAFormats
import Testing

@testable import LoRAModel

extension KernelTests {
    @Suite("Inference")
    struct InferencePassTests {
        let model: BaseModel

        init() throws { model = try TinyModel(isTied: false, type: .q8_0, embeddingType: .q4_1).make() }

        func withPass<Result>(
            capacity: Int = 160, threads: Int = 1, compute: Compute = .f32, _ body: (InferencePass) throws -> Result
        ) throws -> Result {
            try withPool(threads: threads) { pool in
                try body(
                    InferencePass(model: model, pool: pool, compute: compute, capacity: capacity, positions: 256))
            }
        }

        func cache() -> KeyValueCache { KeyValueCache(configuration: model.configuration) }

        /// Logits lie within ±10; the sums of one path and another differ by some 1e-6 of that after two blocks.
        let rounding: Float = 5e-5

        @Test("Token by token, in uneven chunks or at once, across pages", arguments: [1, 63, 64, 65, 129])
        func chunks(count: Int) throws {
            let adapter = AdapterParameters.random(model)
            let packed = PackedAdapter(adapter)
            let text = tokens(count, seed: UInt64(count))
            try withPass { pass in
                let whole = pass.logits(text, adapter: adapter)
                #expect(whole.count == count)
                for size in [1, 40] {
                    let cache = cache()
                    var rows: [[Float]] = []
                    for start in stride(from: 0, to: count, by: size) {
                        let part = Array(text[start..<min(start + size, count)])
                        rows += pass.logits([.init(cache: cache, tokens: part, adapter: packed, wanted: .all)])[0]
                    }
                    #expect(cache.count == count)
                    #expect(largestDifference(rows, whole) < rounding, "chunks of \(size)")
                }
            }
        }

        @Test("The training pass computes the same losses")
        func training() throws {
            let adapter = AdapterParameters.random(model)
            let sample = Sample(count: 30, from: 1, seed: 4)
            let rows = try withPass { $0.logits(sample.tokens, adapter: adapter) }
            let loss = try withPool { pool in
                try TrainingPass(
                    model: model, adapter: adapter, pool: pool, plan: .init(compute: .f32, rows: 32, positions: 32)
                ).evaluate(PackedBatch([sample]))
            }
            let expected = zip(rows, sample.tokens.dropFirst()).reduce(0.0) { sum, next in
                let largest = next.0.reduce(-Float.infinity, max)
                let total = next.0.reduce(0.0) { $0 + exp(Double($1 - largest)) }
                return sum + log(total) + Double(largest - next.0[Int(next.1)])
            }
            #expect(abs(loss - expected) < 1e-5 * expected)
        }

        @Test("An adapter whose B is zero gives the base's logits, bit for bit")
        func zeroB() throws {
            let adapter = AdapterParameters.random(model, bound: 0)
            try withPass { pass in
                for count in [1, 5, 50] {
                    let text = tokens(count, seed: 1)
                    #expect(pass.logits(text, adapter: adapter) == pass.logits(text))
                    #expect(pass.logits(text, adapter: .random(model)) != pass.logits(text))
                }
            }
        }

        @Test("Sequences with adapters of their own, side by side, get what each gets alone", arguments: [3, 40])
        func mix(count: Int) throws {
            let adapters: [AdapterParameters?] = [
                .random(model, seed: 1), nil, .random(model, rank: 9, targets: [.upProjection], seed: 2),
                .random(model, rank: 2, targets: [.queryProjection, .downProjection], seed: 3), .random(model, seed: 1),
            ]
            try withPass(capacity: 256, threads: 2) { pass in
                let texts = adapters.indices.map { tokens(count + $0, seed: UInt64($0)) }
                let alone = zip(texts, adapters).map { pass.logits($0, adapter: $1) }
                let chunks = zip(texts, adapters).map {
                    InferencePass.Chunk(cache: cache(), tokens: $0, adapter: $1.map(PackedAdapter.init), wanted: .all)
                }
                for (together, own) in zip(pass.logits(chunks), alone) {
                    #expect(largestDifference(together, own) < rounding)
                }
            }
        }

        @Test("Decoding gives each sequence the same bits, whoever else is in the step")
        func decodingMix() throws {
            let adapters = (0..<6).map { PackedAdapter(.random(model, rank: 1 + $0, seed: UInt64($0))) }
            try withPass(threads: 2) { pass in
                func step(_ indices: [Int]) -> [[[Float]]] {
                    let caches = indices.map { _ in cache() }
                    for (index, cache) in zip(indices, caches) {
                        let text = tokens(10 + index, seed: UInt64(index))
                        pass.run([.init(cache: cache, tokens: text, adapter: adapters[index], wanted: .none)]) {
                            _, _, _ in
                        }
                    }
                    return pass.logits(
                        zip(indices, caches).map {
                            .init(cache: $1, tokens: [Int32($0)], adapter: adapters[$0], wanted: .last)
                        })
                }
                let together = step(Array(0..<6))
                for index in 0..<6 { #expect(step([index])[0] == together[index]) }
                #expect(step([4, 1, 3]) == [together[4], together[1], together[3]])
            }
        }

        @Test(
            "A pass over stored blocks gives a row the same bits, whatever its company",
            arguments: [GGUFTensorType.q8_0, .q4_1, .bf16, .f16], Compute.allCases.filter(\.isSupported))
        func storedMix(type: GGUFTensorType, compute: Compute) throws {
            let model = try TinyModel(isTied: true, type: type, embeddingType: type).make()
            let ranks = [1, 4, 8, 16, 9, 8, 32, 8]
            // The last eight share an adapter of the first, or have none.
            let own = ranks.indices.map { PackedAdapter(.random(model, rank: ranks[$0], seed: UInt64($0))) }
            let adapters =
                own.map { $0 as PackedAdapter? } + [own[2], nil, own[2], own[0], nil, own[2], own[7], nil]
            try withPool(threads: 2) { pool in
                let pass = try InferencePass(
                    model: model, pool: pool, compute: compute, capacity: 128, positions: 128)
                func step(_ indices: [Int]) -> [[[Float]]] {
                    let caches = indices.map { _ in cache() }
                    for (index, cache) in zip(indices, caches) {
                        let text = tokens(3 + 5 * index, seed: UInt64(index))
                        pass.run([.init(cache: cache, tokens: text, adapter: adapters[index], wanted: .none)]) {
                            _, _, _ in
                        }
                    }
                    let chunks = zip(indices, caches).map {
                        InferencePass.Chunk(cache: $1, tokens: [Int32($0)], adapter: adapters[$0], wanted: .last)
                    }
                    var rows = [[[Float]]](repeating: [], count: chunks.count)
                    pass.run(chunks, by: .stored) { chunk, _, logits in rows[chunk].append(Array(logits)) }
                    return rows
                }
                let together = step(Array(adapters.indices))
                for index in adapters.indices { #expect(step([index])[0] == together[index], "\(index)") }
                let some = [14, 3, 9, 2, 10]
                #expect(step(some) == some.map { together[$0] })
                #expect(Set(together.map { $0[0] }).count == adapters.count)
            }
        }

        @Test("In bf16 a row's bits do not depend on the chunks", .enabled(if: Compute.best == .bf16))
        func roundedChunks() throws {
            let adapter = AdapterParameters.random(model)
            let packed = PackedAdapter(adapter)
            let text = tokens(129, seed: 3)
            try withPass(threads: 2, compute: .bf16) { pass in
                let whole = pass.logits(text, adapter: adapter)
                for size in [1, 40, 64] {
                    let cache = cache()
                    var rows: [[Float]] = []
                    for start in stride(from: 0, to: text.count, by: size) {
                        let part = Array(text[start..<min(start + size, text.count)])
                        rows += pass.logits([.init(cache: cache, tokens: part, adapter: packed, wanted: .all)])[0]
                    }
                    #expect(rows == whole, "chunks of \(size)")
                }
            }
        }

        @Test("Wanted rows: none, the last, or all of them, in order")
        func wanted() throws {
            let texts = [tokens(5, seed: 1), tokens(70, seed: 2), tokens(3, seed: 3), tokens(1, seed: 4)]
            try withPass(threads: 2) { pass in
                let all = pass.logits(texts.map { .init(cache: cache(), tokens: $0, adapter: nil, wanted: .all) })
                var seen: [[Int]] = []
                let wanted: [InferencePass.Chunk.Wanted] = [.last, .all, .none, .last]
                let chunks = zip(texts, wanted).map {
                    InferencePass.Chunk(cache: cache(), tokens: $0, adapter: nil, wanted: $1)
                }
                pass.run(chunks) { chunk, row, logits in
                    seen.append([chunk, row])
                    // The output matrix is multiplied for other numbers of rows.
                    let difference = zip(logits, all[chunk][row]).reduce(Float(0)) { max($0, abs($1.0 - $1.1)) }
                    #expect(difference < rounding, "row \(row) of chunk \(chunk)")
                }
                #expect(seen == [[0, 4]] + (0..<70).map { [1, $0] } + [[3, 0]])
            }
        }

        @Test("A step in parts gives what it gives whole, and one that is given up leaves nothing")
        func parts() throws {
            let adapter = PackedAdapter(.random(model))
            let (text, other) = (tokens(70, seed: 1), tokens(20, seed: 2))
            try withPool { pool in
                let make = {
                    try InferencePass(model: model, pool: pool, compute: .f32, capacity: 128, positions: 128)
                }
                let (pass, second) = try (make(), make())
                let expected = pass.logits([.init(cache: cache(), tokens: text, adapter: adapter, wanted: .all)])[0]
                let beside = second.logits(other)
                let chunk = InferencePass.Chunk(cache: cache(), tokens: text, adapter: adapter, wanted: .all)
                for isGivenUp in [true, false] {
                    pass.begin([chunk])
                    #expect(pass.rowCount == 70)
                    #expect(pass.advance(blocks: 1) == 1)
                    #expect(second.logits(other) == beside)
                    #expect(chunk.cache.count == 0)
                    if isGivenUp { continue }
                    #expect(pass.advance(blocks: 5) == 0)
                    var rows: [[Float]] = []
                    pass.finish { _, _, logits in rows.append(Array(logits)) }
                    #expect(rows == expected)
                    #expect(chunk.cache.count == 70)
                }
            }
        }

        @Test("A truncated cache goes on as if the rest had never been", arguments: [0, 1, 63, 64, 65, 100])
        func truncate(count: Int) throws {
            let (prefix, other, rest) = (tokens(count, seed: 1), tokens(80, seed: 2), tokens(7, seed: 3))
            try withPass { pass in
                let cache = cache()
                if count > 0 { _ = pass.logits([.init(cache: cache, tokens: prefix, adapter: nil, wanted: .last)]) }
                let fresh = self.cache()
                if count > 0 { _ = pass.logits([.init(cache: fresh, tokens: prefix, adapter: nil, wanted: .last)]) }
                _ = pass.logits([.init(cache: cache, tokens: other, adapter: nil, wanted: .last)])
                cache.truncate(to: count)
                #expect(cache.count == count)
                let again = pass.logits([.init(cache: cache, tokens: rest, adapter: nil, wanted: .all)])
                #expect(again == pass.logits([.init(cache: fresh, tokens: rest, adapter: nil, wanted: .all)]))
            }
        }

        @Test("bf16 products give logits near f32's", .enabled(if: Compute.bf16.isSupported))
        func bfloat16() throws {
            let text = tokens(50, seed: 1)
            let adapter = AdapterParameters.random(model)
            let exact = try withPass { $0.logits(text, adapter: adapter) }
            let rounded = try withPass(compute: .bf16) { $0.logits(text, adapter: adapter) }
            let range = exact.joined().reduce(0) { max($0, abs($1)) }
            #expect(largestDifference(exact, rounded) < 0.03 * range)
        }
    }
}
