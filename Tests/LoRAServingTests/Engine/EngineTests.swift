import Foundation
import LoRAModel
import LoRAServing
import LoRAText
import TestSupport
import Testing

@Suite("Engine")
struct EngineTests {
    /// Token ids that stand for nothing in particular.
    static func prompt(_ count: Int, seed: UInt64, below limit: Int = 250) -> [Int32] {
        var random = SplitMix64(seed: seed)
        return (0..<count).map { _ in Int32(random.next() % UInt64(limit)) + 3 }
    }

    static func request(
        _ prompt: [Int32], _ adapter: AdapterSnapshot? = nil, tenant: String = "", maximumTokens: Int = 12,
        temperature: Float = 0, seed: UInt64 = 0
    ) -> GenerationRequest {
        GenerationRequest(
            prompt: prompt, adapter: adapter, tenant: tenant, maximumTokens: maximumTokens,
            sampling: .init(temperature: temperature, seed: seed), alternatives: 3)
    }

    @Test(
        "An answer has the same bits alone, among its own adapter's and among other adapters'",
        arguments: [false, true], Compute.allCases.filter(\.isSupported))
    func company(isReal: Bool, compute: Compute) async throws {
        let lock = try await VariantLock.sharedWhenFree()
        defer { lock.release() }
        let base = try isReal ? TestBase.real() : TestBase.tiny()
        let adapters = (0..<6).map { base.adapter(seed: UInt64($0)) }
        let lengths = isReal ? [1, 5, 16, 64, 65, 130, 300] : [1, 15, 17, 64, 65, 81, 140]
        func requests(_ adapter: (Int) -> AdapterSnapshot?) -> [GenerationRequest] {
            lengths.enumerated().map { index, length in
                Self.request(
                    Self.prompt(length, seed: UInt64(index)), adapter(index), temperature: index % 2 == 0 ? 0 : 0.8,
                    seed: UInt64(index))
            }
        }
        let same = requests { _ in adapters[0] }
        let different = requests { $0 == 6 ? nil : adapters[$0] }
        // Each on an engine of its own, so that no cached prefix helps.
        var alone: [Answer] = []
        for request in same + different {
            alone.append(try await base.withEngine(compute: compute) { try await $0.answer(request) })
        }
        #expect(Set(alone.map(\.text)).count > lengths.count, "answers that say nothing")
        let shuffled = zip(same, different).flatMap { [$0, $1] } + same.reversed()
        let expected =
            zip(alone[..<lengths.count], alone[lengths.count...]).flatMap { [$0, $1] }
            + alone[..<lengths.count].reversed()
        for (requests, expected) in [
            (same, Array(alone[..<lengths.count])), (different, Array(alone[lengths.count...])), (shuffled, expected),
        ] {
            let answers = try await base.withEngine(compute: compute, { $0.sequences = 21 }) {
                try await $0.answers(requests)
            }
            for (index, pair) in zip(answers, expected).enumerated() {
                let isSame = pair.0.says(pair.1)
                #expect(isSame, "request \(index): \(pair.0.text) for \(pair.1.text)")
            }
        }
    }

    @Test("A prefix that is cached changes no bit, belongs to one adapter and one tenant, and is counted")
    func prefixes() async throws {
        let lock = try await VariantLock.sharedWhenFree()
        defer { lock.release() }
        let base = try TestBase.tiny()
        let (a, b) = (base.adapter(seed: 1), base.adapter(seed: 2))
        let prompt = Self.prompt(70, seed: 5)
        let longer = prompt + Self.prompt(20, seed: 6)
        func fresh(_ request: GenerationRequest) async throws -> Answer {
            try await base.withEngine { try await $0.answer(request) }
        }
        try await base.withEngine { engine in
            let first = try await engine.answer(Self.request(prompt, a))
            #expect(first.cachedTokens == 0)
            let other = try await engine.answer(Self.request(prompt, b))
            #expect(other.cachedTokens == 0)
            let again = try await engine.answer(Self.request(prompt, a))
            #expect(again.cachedTokens == 64)
            #expect(again.says(first))
            #expect(try await other.says(fresh(Self.request(prompt, b))))
            let continued = try await engine.answer(Self.request(longer, a))
            #expect(continued.cachedTokens == 64)
            #expect(try await continued.says(fresh(Self.request(longer, a))))
            let stranger = try await engine.answer(Self.request(prompt, a, tenant: "other"))
            #expect(stranger.cachedTokens == 0)
            #expect(stranger.says(first))
        }
    }

    @Test("Answers to one prompt at a time read it once, also when the one that reads it goes away")
    func sharedReading() async throws {
        let lock = try await VariantLock.sharedWhenFree()
        defer { lock.release() }
        let base = try TestBase.tiny()
        let prompt = Self.prompt(140, seed: 7)
        let other = Array(prompt[..<100]) + Self.prompt(40, seed: 8)
        let requests = (0..<4).map { Self.request(prompt, temperature: 1, seed: $0) } + [Self.request(other)]
        var alone: [Answer] = []
        for request in requests {
            alone.append(try await base.withEngine { try await $0.answer(request) })
        }
        try await base.withEngine { engine in
            let answers = try await engine.answers(requests)
            for (answer, expected) in zip(answers, alone) { #expect(answer.says(expected)) }
            // Which one comes first is open; the other prompt shares six pages with the four.
            let cached = answers.map(\.cachedTokens).sorted()
            #expect(cached == [0, 96, 128, 128, 128])
        }
        try await base.withEngine { engine in
            var first: AsyncThrowingStream<GenerationEvent, any Error>? = try engine.generate(requests[0])
            async let second = engine.answer(requests[1])
            withExtendedLifetime(first) {}
            first = nil
            #expect(try await second.says(alone[1]))
        }
    }

    @Test("What was generated is not taken for a prompt that was read")
    func answersAreNotCached() async throws {
        let lock = try await VariantLock.sharedWhenFree()
        defer { lock.release() }
        let base = try TestBase.tiny()
        try await base.withEngine { engine in
            let prompt = Self.prompt(70, seed: 3)
            let first = try await engine.answer(Self.request(prompt, maximumTokens: 30))
            #expect(first.completionTokens > 20)
            let text = base.tokenizer.encode(first.text)
            let next = try await engine.answer(Self.request(prompt + text, maximumTokens: 4))
            #expect(next.cachedTokens == 64)
        }
    }

    @Test("Cached prefixes give way to running requests, and the oldest first")
    func eviction() async throws {
        let base = try TestBase.tiny()
        let pages = 20
        let bytes = pages * KeyValueCache.pageBytes(configuration: base.model.configuration, compute: .best)
        try await base.withEngine({ $0.cacheBytes = bytes }) { engine in
            #expect(engine.limits.positions == 256)
            let prompts = (0..<4).map { Self.prompt(97, seed: UInt64($0)) }
            for prompt in prompts { _ = try await engine.answer(Self.request(prompt, maximumTokens: 4)) }
            let cached = try await engine.answer(Self.request(prompts[3], maximumTokens: 4))
            #expect(cached.cachedTokens == 96)
            let forgotten = try await engine.answer(Self.request(prompts[0], maximumTokens: 4))
            #expect(forgotten.cachedTokens < 96)
            // Each takes 16 of the 20 pages: they run one after the other.
            let large = (0..<3).map { Self.request(Self.prompt(200, seed: 10 + UInt64($0)), maximumTokens: 50) }
            for answer in try await engine.answers(large) { #expect(answer.reason != nil) }
        }
    }

    @Test("Pages that a request might need but does not write drive no prefix out")
    func unwrittenPages() async throws {
        let base = try TestBase.tiny()
        let bytes = 10 * KeyValueCache.pageBytes(configuration: base.model.configuration, compute: .best)
        let ends = Dictionary(uniqueKeysWithValues: base.tokenizer.endIDs.map { ($0, Float(1000)) })
        try await base.withEngine({ $0.cacheBytes = bytes }) { engine in
            let prompt = Self.prompt(97, seed: 1)
            _ = try await engine.answer(Self.request(prompt, maximumTokens: 4))
            // 5 of the 10 pages, of which it writes one.
            let short = GenerationRequest(prompt: [5], maximumTokens: 150, sampling: .init(logitBias: ends))
            #expect(try await engine.answer(short).completionTokens == 1)
            #expect(try await engine.answer(Self.request(prompt, maximumTokens: 4)).cachedTokens == 96)
        }
    }

    @Test("Answers that outgrow the memory together pause and go on, with the bits that they have alone")
    func pauses() async throws {
        let lock = try await VariantLock.sharedWhenFree()
        defer { lock.release() }
        let base = try TestBase.tiny()
        let bytes = 22 * KeyValueCache.pageBytes(configuration: base.model.configuration, compute: .best)
        let endless = Dictionary(uniqueKeysWithValues: base.tokenizer.endIDs.map { ($0, Float(-100)) })
        let requests = [70, 20, 33, 90, 17].enumerated().map { index, length in
            GenerationRequest(
                prompt: Self.prompt(length, seed: UInt64(index)), maximumTokens: 150,
                sampling: .init(temperature: 0.8, logitBias: endless, seed: UInt64(index)),
                alternatives: 2)
        }
        var alone: [Answer] = []
        for request in requests {
            alone.append(try await base.withEngine({ $0.cacheBytes = bytes }) { try await $0.answer(request) })
        }
        try await base.withEngine({ $0.cacheBytes = bytes }) { engine in
            let answers = try await engine.answers(requests)
            for (index, pair) in zip(answers, alone).enumerated() {
                #expect(pair.0.completionTokens == 150)
                #expect(pair.0.says(pair.1), "request \(index): \(pair.0.text) for \(pair.1.text)")
            }
            // The first two alone need 25 of the 22 pages.
            #expect(engine.load.pauses > 0)
            // Nothing stays set aside.
            #expect(try await engine.answer(requests[3]).says(alone[3]))
            #expect(engine.load.running == 0)
        }
    }

    @Test("The prompt's own tokens are scored: all but the first, as if each had been generated")
    func scoredPrompts() async throws {
        let lock = try await VariantLock.sharedWhenFree()
        defer { lock.release() }
        let base = try TestBase.tiny()
        let prompt = base.tokenizer.encode("the owl in the other tree")
        try await base.withEngine { engine in
            var request = Self.request(prompt, maximumTokens: 0)
            request.scoresPrompt = true
            let answer = try await engine.answer(request)
            #expect(answer.tokenTexts.joined() == "the owl in the other tree")
            #expect(answer.logprobs.count == (prompt.count - 1) * 4)
            #expect(answer.completionTokens == 0)
            #expect(answer.reason == .length)
            #expect(answer.logprobs.allSatisfy { $0 < 0 })
            let uncached = try await engine.answer(request)
            #expect(uncached.says(answer))
        }
    }

    @Test("A reader that goes away frees its place; those that wait leave the queue")
    func withdrawal() async throws {
        let base = try TestBase.tiny()
        try await base.withEngine({ $0.sequences = 1 }) { engine in
            let endless = GenerationRequest(
                prompt: [5], maximumTokens: 250, sampling: .init(logitBias: [0: -100, 1: -100, 2: -100]))
            // The first one runs and is heard once; nobody listens to the others.
            var streams = try (0..<40).map { _ in try engine.generate(endless) }
            for try await event in streams[0] { if case .text = event { break } }
            // A stream that is let go of is one whose reader went away.
            streams = []
            #expect(engine.load.waiting == 0)
            await eventually("the place of the one that ran is free") { engine.load.running == 0 }
            let next = try await engine.answer(Self.request([6], maximumTokens: 2))
            #expect(next.completionTokens > 0)
        }
    }

    @Test("An adapter is freed with its last request, not with the engine's next step", arguments: [5, 70])
    func freedAdapter(promptLength: Int) async throws {
        let base = try TestBase.tiny()
        try await base.withEngine { engine in
            weak var matrices: PackedAdapter?
            do {
                let adapter = base.adapter(seed: 1)
                matrices = adapter.parameters
                _ = try await engine.answer(Self.request(Self.prompt(promptLength, seed: 1), adapter))
            }
            await eventually("nobody holds its matrices") { matrices == nil }
        }
    }

    @Test("A step that is abandoned leaves its cache as it was and holds nothing")
    func abandonedStep() throws {
        let base = try TestBase.tiny()
        let pool = ThreadPool(count: 1)
        defer { pool.shutdown() }
        let pass = try InferencePass(model: base.model, pool: pool, compute: .f32, capacity: 32, positions: 64)
        weak var matrices: PackedAdapter?
        weak var keys: KeyValueCache?
        do {
            let (adapter, cache) = (base.adapter(seed: 1), KeyValueCache(configuration: base.model.configuration))
            (matrices, keys) = (adapter.parameters, cache)
            pass.begin([.init(cache: cache, tokens: [5, 6], adapter: adapter.parameters, wanted: .last)])
            #expect(pass.advance(blocks: 1) == 1 && pass.rowCount == 2)
            pass.abandon()
            #expect(cache.count == 0 && pass.rowCount == 0)
        }
        #expect(matrices == nil && keys == nil)
    }

    @Test("A full queue refuses and says when to come back; an engine that drains refuses and ends what runs")
    func refusals() async throws {
        let base = try TestBase.tiny()
        try await base.withEngine({ ($0.sequences, $0.waiting, $0.waitingPerTenant) = (1, 2, 2) }) { engine in
            let request = Self.request([5], maximumTokens: 200)
            var streams: [AsyncThrowingStream<GenerationEvent, any Error>] = []
            var refusal: InferenceEngine.Refusal?
            for _ in 0..<8 {
                do { streams.append(try engine.generate(request)) } catch let error as InferenceEngine.Refusal {
                    refusal = error
                }
            }
            guard case .queueFull(let retryAfter) = refusal else {
                Issue.record("no refusal, but \(String(describing: refusal))")
                return
            }
            #expect((1...60).contains(retryAfter))
            let kept = streams
            async let drained: Void = engine.drain(timeout: .seconds(60))
            for stream in kept {
                var isFinished = false
                for try await event in stream { if case .finished = event { isFinished = true } }
                #expect(isFinished)
            }
            await drained
            #expect(throws: InferenceEngine.Refusal.draining) { _ = try engine.generate(request) }
        }
    }

    @Test("A base that is truncated or overwritten under the map ends the engine, not its answers")
    func changedBase() async throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "lora-\(UUID().uuidString).bin").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        let bytes = try Data(contentsOf: URL(filePath: TestBase.tinyPath()))
        try bytes.write(to: URL(filePath: path))
        let base = try TestBase(path: path)
        try await base.withEngine { engine in
            _ = try await engine.answer(Self.request([5]))
            let file = try FileHandle(forWritingTo: URL(filePath: path))
            try file.seek(toOffset: UInt64(bytes.count - 8))
            try file.write(contentsOf: Data(repeating: 1, count: 8))
            try file.close()
            await #expect(throws: InferenceEngine.Refusal.self) { _ = try await engine.answer(Self.request([5])) }
            #expect(throws: InferenceEngine.Refusal.self) { _ = try engine.generate(Self.request([5])) }
        }
    }
}
