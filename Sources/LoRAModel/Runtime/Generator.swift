/// Continues token sequences with a key/value cache; many at a time, each with its own adapter.
public final class Generator {
    /// A prompt to continue.
    public struct Request: Sendable {
        public var prompt: [Int32]
        public var adapter: AdapterParameters?
        /// Tokens that end the text; they are not part of it.
        public var endIDs: Set<Int32>
        public var maximumTokens: Int
        public var sampling: SamplingOptions

        public init(
            prompt: [Int32], adapter: AdapterParameters?, endIDs: Set<Int32>, maximumTokens: Int,
            sampling: SamplingOptions = .init()
        ) {
            self.prompt = prompt
            self.adapter = adapter
            self.endIDs = endIDs
            self.maximumTokens = maximumTokens
            self.sampling = sampling
        }
    }

    private let pass: InferencePass
    /// Sequences that run at a time.
    private let slots: Int

    /// - Parameters:
    ///   - slots: sequences that run at a time, at most `InferencePass.storedRows`.
    ///   - positions: tokens that prompt and continuation may have together.
    /// - Throws: `FormatError` when the memory cannot be had.
    public init(model: BaseModel, pool: ThreadPool, compute: Compute, slots: Int, positions: Int) throws {
        self.slots = slots
        pass = try InferencePass(
            model: model, pool: pool, compute: compute, capacity: max(min(512, max(64, positions)), slots),
            positions: positions)
    }

    /// The continuation of each request, without the token that ended it.
    /// - Parameter onToken: called for each new token of a request; false ends its continuation.
    public func run(
        _ requests: [Request], onToken: (_ request: Int, _ token: Int32) -> Bool = { _, _ in true }
    ) -> [[Int32]] {
        var results = [[Int32]](repeating: [], count: requests.count)
        var waiting = requests.indices.filter { requests[$0].maximumTokens > 0 && !requests[$0].prompt.isEmpty }[...]
        var active: [Sequence] = []
        var packed: [ObjectIdentifier: PackedAdapter] = [:]
        for case let adapter? in requests.lazy.map(\.adapter) where packed[ObjectIdentifier(adapter)] == nil {
            packed[ObjectIdentifier(adapter)] = PackedAdapter(adapter)
        }
        while !active.isEmpty || !waiting.isEmpty {
            while active.count < slots, let index = waiting.popFirst() {
                let adapter = requests[index].adapter.flatMap { packed[ObjectIdentifier($0)] }
                active.append(Sequence(index: index, request: requests[index], adapter: adapter, model: pass.model))
            }
            step(&active) { sequence, token in
                results[sequence.index].append(token)
                return onToken(sequence.index, token)
            }
            active.removeAll { $0.isDone }
        }
        return results
    }

    private struct Sequence {
        let index: Int
        let request: Request
        let adapter: PackedAdapter?
        let cache: KeyValueCache
        var sampler: Sampler
        /// Tokens that the cache does not hold yet: of the prompt, then the last one generated.
        var pending: ArraySlice<Int32>
        var isPrompt: Bool { generated == 0 }
        var generated = 0
        var isDone = false

        init(index: Int, request: Request, adapter: PackedAdapter?, model: BaseModel) {
            self.index = index
            self.request = request
            self.adapter = adapter
            cache = KeyValueCache(configuration: model.configuration)
            sampler = Sampler(request.sampling)
            pending = request.prompt[...]
        }
    }

    /// A token of each sequence that decodes, then as much of the waiting prompts as fits into a pass. A prompt goes
    /// through expanded matrices and what is generated through stored blocks, so that texts do not depend on `slots`.
    private func step(_ active: inout [Sequence], _ onToken: (Sequence, Int32) -> Bool) {
        let decoding = active.indices.filter { !active[$0].isPrompt }
        let reading = active.indices.filter { active[$0].isPrompt }
        run(decoding, &active, by: .stored, onToken)
        run(reading, &active, by: .expanded, onToken)
    }

    private func run(
        _ indices: [Int], _ active: inout [Sequence], by products: InferencePass.Products,
        _ onToken: (Sequence, Int32) -> Bool
    ) {
        var room = pass.capacity
        var chunks: [InferencePass.Chunk] = []
        var owners: [Int] = []
        for index in indices where room > 0 {
            let tokens = Array(active[index].pending.prefix(room))
            room -= tokens.count
            active[index].pending = active[index].pending.dropFirst(tokens.count)
            chunks.append(
                .init(
                    cache: active[index].cache, tokens: tokens, adapter: active[index].adapter,
                    wanted: active[index].pending.isEmpty ? .last : .none))
            owners.append(index)
        }
        guard !chunks.isEmpty else { return }
        pass.run(chunks, by: products) { chunk, _, logits in
            let owner = owners[chunk]
            let token = active[owner].sampler.next(logits)
            let request = active[owner].request
            if request.endIDs.contains(token) { return active[owner].isDone = true }
            active[owner].generated += 1
            let goesOn = onToken(active[owner], token)
            active[owner].pending = [token]
            let isFull = active[owner].cache.count + 1 >= pass.positions
            active[owner].isDone = !goesOn || isFull || active[owner].generated >= request.maximumTokens
        }
    }
}
