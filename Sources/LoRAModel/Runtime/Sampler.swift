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
    /// Taken off a token's logit for each time that the answer has it already.
    public var frequencyPenalty: Float
    /// Taken off a token's logit once when the answer has it already.
    public var presencePenalty: Float
    /// Added to the logits of these tokens; those that the vocabulary does not have are passed over.
    public var logitBias: [Int32: Float]
    public var seed: UInt64

    public init(
        temperature: Float = 0, topK: Int = 0, topP: Float = 1, minP: Float = 0, frequencyPenalty: Float = 0,
        presencePenalty: Float = 0, logitBias: [Int32: Float] = [:], seed: UInt64 = 0
    ) {
        self.temperature = temperature
        self.topK = topK
        self.topP = topP
        self.minP = minP
        self.frequencyPenalty = frequencyPenalty
        self.presencePenalty = presencePenalty
        self.logitBias = logitBias
        self.seed = seed
    }
}

/// Chooses tokens for one sequence; the same seed and logits give the same tokens.
///
/// It keeps what it works in from token to token, so that a token costs tens of microseconds and no memory.
public struct Sampler: Sendable {
    private let options: SamplingOptions
    private var random: SplitMix64
    private let penalizes: Bool
    /// How often each token was chosen, where that matters.
    private var counts: [Int32: Float] = [:]
    /// Logits with bias and penalties (V), where there are any.
    private var adjusted: [Float] = []
    private(set) var weights = TokenWeights()

    public init(_ options: SamplingOptions) {
        self.options = options
        random = SplitMix64(seed: options.seed)
        penalizes = options.frequencyPenalty != 0 || options.presencePenalty != 0
    }

    /// The next token given logits (V): bias and penalties first, then temperature, top-k, top-p and min-p.
    ///
    /// The token counts for penalties from now on.
    public mutating func next(_ logits: UnsafeBufferPointer<Float>) -> Int32 {
        let token: Int32
        if options.logitBias.isEmpty && counts.isEmpty {
            token = choose(logits)
        } else {
            adjust(logits)
            let adjusted = adjusted
            token = adjusted.withUnsafeBufferPointer { choose($0) }
        }
        if penalizes { counts[token, default: 0] += 1 }
        return token
    }

    private mutating func adjust(_ logits: UnsafeBufferPointer<Float>) {
        adjusted.removeAll(keepingCapacity: true)
        adjusted.append(contentsOf: logits)
        for (token, bias) in options.logitBias where adjusted.indices.contains(Int(token)) {
            adjusted[Int(token)] += bias
        }
        for (token, count) in counts where adjusted.indices.contains(Int(token)) {
            adjusted[Int(token)] -= options.frequencyPenalty * count + options.presencePenalty
        }
    }

    private mutating func choose(_ logits: UnsafeBufferPointer<Float>) -> Int32 {
        guard options.temperature > 0 else { return Self.mostLikely(logits) }
        weights.set(logits, temperature: options.temperature)
        weights.filter(topK: options.topK, topP: options.topP, minP: options.minP)
        return weights.token(at: Double(random.next() >> 11) * 0x1p-53)
    }

    /// The lowest token of the largest logit; NaN counts as the least.
    public static func mostLikely(_ logits: UnsafeBufferPointer<Float>) -> Int32 {
        let largest = largest(logits)
        return Int32(logits.firstIndex(of: largest) ?? 0)
    }

    /// The largest logit; NaN counts as the least.
    static func largest(_ logits: UnsafeBufferPointer<Float>) -> Float {
        // A loop that keeps the larger of two floats does not vectorise; one over lanes does.
        typealias Lanes = SIMD16<Float>
        var lanes = Lanes(repeating: -.infinity)
        let whole = logits.count / Lanes.scalarCount
        let bytes = UnsafeRawBufferPointer(logits)
        for index in 0..<whole {
            let next = bytes.loadUnaligned(fromByteOffset: index * MemoryLayout<Lanes>.stride, as: Lanes.self)
            lanes.replace(with: next, where: next .> lanes)
        }
        var largest = lanes.max()
        for value in logits[(whole * Lanes.scalarCount)...] where value > largest { largest = value }
        return largest
    }
}
