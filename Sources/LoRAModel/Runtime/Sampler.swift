import Foundation

/// How the next token is chosen from logits.
public struct SamplingOptions: Sendable, Equatable {
    /// 0 takes the most likely token.
    public var temperature: Float
    /// Only the k most likely tokens; 0 for all.
    public var topK: Int
    /// Only the fewest most likely tokens that together have this probability; 1 for all.
    public var topP: Float
    /// Only tokens at least so likely, relative to the most likely one; 0 for all.
    public var minP: Float
    public var seed: UInt64

    public init(temperature: Float = 0, topK: Int = 0, topP: Float = 1, minP: Float = 0, seed: UInt64 = 0) {
        self.temperature = temperature
        self.topK = topK
        self.topP = topP
        self.minP = minP
        self.seed = seed
    }
}

/// Chooses tokens for one sequence; the same seed and logits give the same tokens.
public struct Sampler: Sendable {
    private let options: SamplingOptions
    private var random: SplitMix64

    public init(_ options: SamplingOptions) {
        self.options = options
        random = SplitMix64(seed: options.seed)
    }

    /// The next token given logits (V): temperature first, then top-k, top-p and min-p.
    public mutating func next(_ logits: UnsafeBufferPointer<Float>) -> Int32 {
        guard options.temperature > 0 else { return Self.mostLikely(logits) }
        let candidates = likely(logits)
        let total = candidates.reduce(0) { $0 + $1.probability }
        var threshold = Double(random.next() >> 11) * 0x1p-53 * total
        for candidate in candidates {
            threshold -= candidate.probability
            if threshold < 0 { return candidate.token }
        }
        return candidates.last?.token ?? Self.mostLikely(logits)
    }

    /// The lowest token of the largest logit.
    public static func mostLikely(_ logits: UnsafeBufferPointer<Float>) -> Int32 {
        var best = 0
        for index in logits.indices where logits[index] > logits[best] { best = index }
        return Int32(best)
    }

    private typealias Candidate = (token: Int32, probability: Double)

    /// Tokens that may be drawn, most likely first; probabilities are relative to the first's.
    private func likely(_ logits: UnsafeBufferPointer<Float>) -> [Candidate] {
        let largest = logits[Int(Self.mostLikely(logits))]
        var candidates: [Candidate] = logits.indices.map { index in
            (Int32(index), exp(Double(logits[index] - largest) / Double(options.temperature)))
        }
        candidates.sort { $0.probability == $1.probability ? $0.token < $1.token : $0.probability > $1.probability }
        if options.topK > 0 { candidates = Array(candidates.prefix(options.topK)) }
        if options.topP < 1 {
            let total = candidates.reduce(0) { $0 + $1.probability }
            var sum = 0.0
            let kept = candidates.prefix { candidate in
                defer { sum += candidate.probability }
                return sum < Double(options.topP) * total
            }
            candidates = Array(kept.isEmpty ? candidates.prefix(1) : kept)
        }
        if options.minP > 0 { candidates = Array(candidates.prefix { $0.probability >= Double(options.minP) }) }
        return candidates
    }
}
