public import LoRAModel

/// A prompt to continue, as the engine takes it.
public struct GenerationRequest: Sendable {
    /// Not empty; with `maximumTokens` within the engine's `positions`.
    public var prompt: [Int32]
    /// nil for the base alone.
    public var adapter: AdapterSnapshot?
    /// Who asks: requests of different tenants share neither cached prefixes nor their place in the queue.
    public var tenant: String
    public var maximumTokens: Int
    public var sampling: SamplingOptions
    /// Texts that end the answer; they are not part of it.
    public var stops: [String]
    /// Log-probabilities of the tokens, each with so many of the most likely ones; nil for none.
    public var alternatives: Int?
    /// Whether log-probabilities of the prompt's own tokens are wanted too (`GenerationEvent.prompt`).
    public var scoresPrompt: Bool

    public init(
        prompt: [Int32], adapter: AdapterSnapshot? = nil, tenant: String = "", maximumTokens: Int,
        sampling: SamplingOptions = .init(), stops: [String] = [], alternatives: Int? = nil, scoresPrompt: Bool = false
    ) {
        self.prompt = prompt
        self.adapter = adapter
        self.tenant = tenant
        self.maximumTokens = maximumTokens
        self.sampling = sampling
        self.stops = stops
        self.alternatives = alternatives
        self.scoresPrompt = scoresPrompt
    }
}

/// What the engine tells about a request, in this order: `started`, `prompt` if asked for, any number of `text`, `finished`.
public enum GenerationEvent: Sendable {
    /// Its prompt is being read.
    /// - Parameter cachedTokens: tokens of the prompt that the prefix cache held.
    case started(cachedTokens: Int)
    /// The prompt's tokens; the first has no log-probability.
    case prompt([ScoredToken])
    /// Whole characters that follow what came before, never part of a stop text. `tokens` (empty unless log-probabilities
    /// are wanted) have the same text, put together.
    case text(String, tokens: [ScoredToken])
    /// - Parameter completionTokens: tokens that were generated, the one that ended the answer included.
    case finished(FinishReason, completionTokens: Int)
}

/// Why an answer ended.
public enum FinishReason: String, Sendable {
    /// A token or a text that ends answers.
    case stop
    /// `maximumTokens`.
    case length
}

/// A token with the probability it had under temperature 1.
public struct ScoredToken: Sendable {
    /// What the token added to the text: empty for the first bytes of a character that later tokens complete.
    public var text: String
    /// The bytes the token stands for.
    public var bytes: [UInt8]
    /// Natural logarithm of its probability; nil for a prompt's first token.
    public var logprob: Float?
    /// The most likely tokens in its place, best first.
    public var alternatives: [Alternative]

    /// A token that might have been.
    public struct Alternative: Sendable {
        /// Its bytes as text, U+FFFD for parts of characters.
        public var text: String
        public var bytes: [UInt8]
        public var logprob: Float

        public init(text: String, bytes: [UInt8], logprob: Float) {
            self.text = text
            self.bytes = bytes
            self.logprob = logprob
        }
    }

    public init(text: String, bytes: [UInt8], logprob: Float?, alternatives: [Alternative]) {
        self.text = text
        self.bytes = bytes
        self.logprob = logprob
        self.alternatives = alternatives
    }
}
