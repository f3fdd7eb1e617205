import LoRAModel
import LoRAText

/// A request while it runs: what of it is read, what was generated, and who reads along.
final class RunningSequence {
    let posting: RequestBoard.Posting
    var request: GenerationRequest { posting.request }
    private(set) var cache: KeyValueCache
    let start = ContinuousClock.now
    /// Pages of cached prefixes that it reads, its own among them once they are read.
    var prefix: [PrefixCache.Node]
    /// Pages that were set aside for it beside those.
    var reservedPages: Int
    /// Another one that is reading the beginning of the same prompt, which this one waits for, and how many tokens.
    var leader: (sequence: RunningSequence, tokens: Int)?
    private(set) var isDone = false

    private let configuration: ModelConfiguration
    private let tokenizer: Tokenizer
    private let endIDs: Set<Int32>
    private var sampler: Sampler
    private var text: ReplyText
    /// Tokens that the cache does not hold yet: of the prompt, then the last one generated.
    private var pending: ArraySlice<Int32>
    private var generated = 0
    private var isStarted = false
    private var scoredPrompt: [ScoredToken] = []
    private var promptDecoder: StreamingDecoder

    init(
        _ posting: RequestBoard.Posting, configuration: ModelConfiguration, prefix: [PrefixCache.Node],
        reservedPages: Int, tokenizer: Tokenizer
    ) {
        self.posting = posting
        self.configuration = configuration
        cache = KeyValueCache(configuration: configuration, prefix: prefix.map(\.page))
        self.prefix = prefix
        self.reservedPages = reservedPages
        self.tokenizer = tokenizer
        let request = posting.request
        endIDs = tokenizer.endIDs
        sampler = Sampler(request.sampling)
        text = ReplyText(tokenizer: tokenizer, stops: request.stops)
        promptDecoder = StreamingDecoder(tokenizer: tokenizer, skippingSpecial: false)
        pending = request.prompt[cache.count...]
        if request.scoresPrompt, let first = request.prompt.first {
            scoredPrompt = [scored(promptToken: first, nil)]
        }
    }

    /// Whether parts of the prompt are still to be read.
    var isReading: Bool { cache.count < request.prompt.count }
    /// Tokens of the prompt that a pass over expanded matrices reads.
    var expandedCount: Int { InferencePass.expandedTokens(ofPrompt: request.prompt.count) }
    /// Of those, how many are still to be read.
    var expandedRest: Int { max(0, expandedCount - cache.count) }
    /// Tokens that the next pass may take.
    var pendingCount: Int { pending.count }

    /// The next `count` tokens for a pass.
    func chunk(_ count: Int) -> InferencePass.Chunk {
        if !isStarted { posting.reader.yield(.started(cachedTokens: cache.count)) }
        isStarted = true
        let tokens = Array(pending.prefix(count))
        pending = pending.dropFirst(count)
        let wanted: InferencePass.Chunk.Wanted =
            request.scoresPrompt && isReading ? .all : pending.isEmpty ? .last : .none
        return .init(cache: cache, tokens: tokens, adapter: request.adapter?.parameters, wanted: wanted)
    }

    /// Goes on behind a longer cached prefix; nothing beyond its own may have been read.
    func adopt(_ longer: [PrefixCache.Node]) {
        precondition(!isStarted, "a sequence that is read already")
        reservedPages -= longer.count - prefix.count
        prefix = longer
        cache = KeyValueCache(configuration: configuration, prefix: longer.map(\.page))
        pending = request.prompt[cache.count...]
    }

    /// Takes the logits (V) that follow the token at `position`.
    func accept(_ logits: UnsafeBufferPointer<Float>, position: Int) {
        if position + 1 < request.prompt.count {
            return scoredPrompt.append(scored(promptToken: request.prompt[position + 1], logits))
        }
        if position + 1 == request.prompt.count, request.scoresPrompt { posting.reader.yield(.prompt(scoredPrompt)) }
        guard generated < request.maximumTokens else { return finish(.length) }
        let token = sampler.next(logits)
        generated += 1
        pending = [token]
        if endIDs.contains(token) { return finish(.stop) }
        let piece = text.append(token, score: score(logits, token))
        emit(piece)
        if piece.isStopped { return finish(.stop) }
        if generated == request.maximumTokens { finish(.length) }
    }

    /// Ends it without an answer.
    func fail(_ refusal: InferenceEngine.Refusal) {
        isDone = true
        posting.reader.finish(throwing: refusal)
    }

    /// Ends it because nobody reads it.
    func abandon() {
        isDone = true
        posting.reader.finish()
    }

    private func finish(_ reason: FinishReason) {
        let rest = text.finish()
        emit(rest)
        posting.reader.yield(.finished(rest.isStopped ? .stop : reason, completionTokens: generated))
        posting.reader.finish()
        isDone = true
    }

    private func emit(_ piece: ReplyText.Piece) {
        guard !piece.text.isEmpty || !piece.tokens.isEmpty else { return }
        posting.reader.yield(.text(piece.text, tokens: piece.tokens))
    }

    // MARK: Log-probabilities

    private func score(_ logits: UnsafeBufferPointer<Float>, _ token: Int32) -> ReplyText.Score? {
        guard let count = request.alternatives else { return nil }
        let probabilities = TokenProbabilities(logits)
        return .init(logprob: probabilities.logprob(of: token), alternatives: probabilities.mostLikely(count))
    }

    private func scored(promptToken token: Int32, _ logits: UnsafeBufferPointer<Float>?) -> ScoredToken {
        let probabilities = logits.map { TokenProbabilities($0) }
        return ScoredToken(
            text: promptDecoder.append(token), bytes: tokenizer.bytes(of: token),
            logprob: probabilities?.logprob(of: token),
            alternatives: probabilities.map { alternatives($0, request.alternatives ?? 0) } ?? [])
    }

    private func alternatives(_ probabilities: TokenProbabilities, _ count: Int) -> [ScoredToken.Alternative] {
        probabilities.mostLikely(count).map { candidate in
            let bytes = tokenizer.bytes(of: candidate.token)
            return .init(text: String(decoding: bytes, as: UTF8.self), bytes: bytes, logprob: candidate.logprob)
        }
    }
}
