import LoRAFormats
import Testing

@testable import LoRAModel

extension KernelTests {
    @Suite("Generator")
    struct GeneratorTests {
        let model: BaseModel

        init() throws { model = try TinyModel(isTied: false).make() }

        func run(
            _ requests: [Generator.Request], slots: Int, positions: Int = 128, threads: Int = 1,
            onToken: (Int, Int32) -> Bool = { _, _ in true }
        ) throws -> [[Int32]] {
            try withPool(threads: threads) { pool in
                try Generator(model: model, pool: pool, compute: .f32, slots: slots, positions: positions)
                    .run(requests, onToken: onToken)
            }
        }

        func request(
            _ prompt: Int, seed: UInt64 = 1, adapter: AdapterParameters? = nil, ends: Set<Int32> = [], most: Int = 12,
            sampling: SamplingOptions = .init()
        ) -> Generator.Request {
            .init(
                prompt: tokens(prompt, seed: seed), adapter: adapter, endIDs: ends, maximumTokens: most,
                sampling: sampling)
        }

        @Test("Greedy tokens are those of the whole text's logits, alone or among others", arguments: [1, 3, 8])
        func greedy(slots: Int) throws {
            let adapters: [AdapterParameters?] = [nil, .random(model, seed: 1), .random(model, rank: 7, seed: 2)]
            // A prompt longer than a step, of one token, and lengths between; more of them than slots.
            let requests = [3, 1, 100, 64, 65, 2, 30].enumerated().map {
                request($1, seed: UInt64($0), adapter: adapters[$0 % 3], most: 5 + $0)
            }
            let results = try run(requests, slots: slots, threads: slots == 3 ? 2 : 1)
            try withPool { pool in
                let pass = try InferencePass(model: model, pool: pool, compute: .f32, capacity: 128, positions: 128)
                for (request, result) in zip(requests, results) {
                    #expect(result.count == request.maximumTokens)
                    let rows = pass.logits(request.prompt + result.dropLast(), adapter: request.adapter)
                    for (row, token) in zip(rows[(request.prompt.count - 1)...], result) {
                        // Another path may prefer a token that is as good up to rounding.
                        let best = row.reduce(-Float.infinity, max)
                        #expect(best - row[Int(token)] < 1e-4)
                    }
                }
            }
        }

        @Test("Greedy tokens do not depend on the number of slots")
        func slots() throws {
            let requests = (0..<9).map { request(4 + 5 * $0, seed: UInt64($0)) }
            let alone = try requests.map { try run([$0], slots: 1)[0] }
            for slots in [1, 2, 4, 16] { #expect(try run(requests, slots: slots) == alone) }
        }

        @Test("An end token ends the text and is no part of it")
        func endIDs() throws {
            let free = try run([request(6)], slots: 1)[0]
            let end = free[4]
            let expected = Array(free.prefix { $0 != end })
            var seen: [Int32] = []
            let result = try run([request(6, ends: [end, 1000])], slots: 1) { _, token in
                seen.append(token)
                return true
            }
            #expect(result == [expected])
            #expect(seen == expected)
        }

        @Test("Maximum, refusal and the end of positions stop a text, and others go on")
        func limits() throws {
            #expect(
                try run([request(6, most: 0), request(0), request(6, most: 1)], slots: 2).map(\.count) == [0, 0, 1])
            var counts = [0, 0]
            let stopped = try run([request(6, most: 10), request(7, most: 10)], slots: 2) { request, _ in
                counts[request] += 1
                return request == 1 || counts[0] < 3
            }
            #expect(stopped.map(\.count) == [3, 10])
            #expect(counts == [3, 10])
            // Prompt and text together have 20 positions.
            #expect(
                try run([request(6, most: 50), request(19, most: 50)], slots: 2, positions: 20).map(\.count) == [14, 1])
        }

        @Test("Sampling is reproducible by seed, in any company")
        func sampling() throws {
            let requests = (0..<4).map { index in
                request(5, seed: 1, sampling: .init(temperature: 1.5, topP: 0.95, seed: UInt64(index)))
            }
            let together = try run(requests, slots: 4)
            #expect(Set(together).count > 1)
            #expect(try run(requests, slots: 2) == together)
            #expect(try requests.map { try run([$0], slots: 1)[0] } == together)
        }
    }
}
