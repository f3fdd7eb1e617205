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
    /// The prompt and what was generated.
    private var tokens: [Int32]
    private var generated: Int { tokens.count - request.prompt.count }
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
        tokens = request.prompt
        if request.scoresPrompt, let first = request.prompt.first {
            scoredPrompt = [scored(promptToken: first, nil)]
        }
    }

    /// Whether more is to be read than the token that was generated last.
    var isReading: Bool { pendingCount > 1 || cache.count < request.prompt.count }
    /// Tokens of the prompt that a pass over expanded matrices reads.
    var expandedCount: Int { InferencePass.expandedTokens(ofPrompt: request.prompt.count) }
    /// Of those, how many are still to be read.
    var expandedRest: Int { max(0, expandedCount - cache.count) }
    /// Tokens that the cache does not hold yet, which the next pass may take.
    var pendingCount: Int { tokens.count - cache.count }
    /// Pages that it needs to hold `count` more tokens, beside the prefix that it reads.
    func ownPages(_ count: Int) -> Int { KeyValueCache.pageCount(positions: cache.count + count) - prefix.count }

    /// The next `count` tokens for a pass.
    func chunk(_ count: Int) -> InferencePass.Chunk {
        if !isStarted { posting.reader.yield(.started(cachedTokens: cache.count)) }
        isStarted = true
        let (end, adapter) = (cache.count + count, request.adapter?.parameters)
        let wanted: InferencePass.Chunk.Wanted =
            request.scoresPrompt && isReading ? .all : end == tokens.count ? .last : .none
        return .init(cache: cache, tokens: Array(tokens[cache.count..<end]), adapter: adapter, wanted: wanted)
    }

    /// Goes on behind a longer cached prefix; nothing beyond its own may have been read.
    func adopt(_ longer: [PrefixCache.Node]) {
        precondition(!isStarted, "a sequence that is read already")
        reservedPages -= longer.count - prefix.count
        prefix = longer
        cache = KeyValueCache(configuration: configuration, prefix: longer.map(\.page))
    }

    /// Gives up what its cache holds. It is read again, to the same bits: which way a token takes depends on its place.
    func pause() {
        (prefix, reservedPages, leader) = ([], 0, nil)
        cache = KeyValueCache(configuration: configuration)
    }

    /// Goes on behind a cached prefix after `pause`.
    func resume(_ prefix: [PrefixCache.Node], reservedPages: Int) {
        (self.prefix, self.reservedPages) = (prefix, reservedPages)
        cache = KeyValueCache(configuration: configuration, prefix: prefix.map(\.page))
    }

    /// Takes the logits (V) that follow the token at `position`.
    func accept(_ logits: UnsafeBufferPointer<Float>, position: Int) {
        if position + 1 < request.prompt.count {
            return scoredPrompt.append(scored(promptToken: request.prompt[position + 1], logits))
        }
        if position + 1 == request.prompt.count, request.scoresPrompt { posting.reader.yield(.prompt(scoredPrompt)) }
        guard generated < request.maximumTokens else { return finish(.length) }
        let token = sampler.next(logits)
        tokens.append(token)
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
