import CKernels
import Foundation

/// Natural logarithms of what tokens' probabilities are under temperature 1, without bias, penalties or filters.
///
/// Valid while the logits are.
public struct TokenProbabilities {
    /// A token with the logarithm of its probability.
    public struct Scored: Sendable, Equatable {
        public var token: Int32
        public var logprob: Float
    }

    /// What stands for tokens that cannot come, so that every value is a number: OpenAI's interface does the same.
    public static let least: Float = -9999
    /// As many as `mostLikely` gives.
    public static let maximumCount = 20

    private let logits: UnsafeBufferPointer<Float>
    /// The logarithm of the sum of the exponentials.
    private let normalizer: Float

    /// - Parameter logits: (V), read once.
    public init(_ logits: UnsafeBufferPointer<Float>) {
        self.logits = logits
        var (maximum, sum): (Float, Float) = (0, 0)
        if let source = logits.baseAddress { lora_exponentials_f32(nil, &maximum, &sum, source, logits.count) }
        normalizer = maximum + log(sum)
    }

    /// The logarithm of a token's probability, at most 0 and at least `least`; `least` for one that the vocabulary does
    /// not have.
    public func logprob(of token: Int32) -> Float {
        guard logits.indices.contains(Int(token)) else { return Self.least }
        let value = logits[Int(token)] - normalizer
        return value.isNaN ? Self.least : min(0, max(Self.least, value))
    }

    /// The `count` most likely tokens, best first, the lowest of equals first.
    public func mostLikely(_ count: Int) -> [Scored] {
        let count = min(count, Self.maximumCount, logits.count)
        guard count > 0 else { return [] }
        var best: [Int] = []
        best.reserveCapacity(count + 1)
        var floor = -Float.infinity
        for (token, logit) in logits.enumerated() where !(logit <= floor) || best.count < count {
            // NaN is less than anything.
            let place = best.firstIndex { !(logits[$0] >= logit) && !logit.isNaN } ?? best.count
            best.insert(token, at: place)
            if best.count > count { best.removeLast() }
            if best.count == count { floor = logits[best[count - 1]] }
        }
        return best.map { Scored(token: Int32(truncatingIfNeeded: $0), logprob: logprob(of: Int32($0))) }
    }
}
