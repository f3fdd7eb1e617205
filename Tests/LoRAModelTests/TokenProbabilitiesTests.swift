import Foundation
import Testing

@testable import LoRAModel

@Suite("Probabilities of tokens")
struct TokenProbabilitiesTests {
    @Test("They are the softmax's logarithms", arguments: [1, 2, 20, 21, 1000, 49_152])
    func logarithms(count: Int) {
        var random = SplitMix64(seed: UInt64(count))
        // Few values, so that there are equals.
        let logits = (0..<count).map { _ in Float(random.next() % 200) * 0.13 - 7 }
        let total = log(logits.reduce(0) { $0 + exp(Double($1)) })
        let order = logits.indices.sorted { logits[$0] == logits[$1] ? $0 < $1 : logits[$0] > logits[$1] }
        logits.withUnsafeBufferPointer { buffer in
            let probabilities = TokenProbabilities(buffer)
            for token in [0, count / 2, count - 1] {
                // f32 carries 30 with an error of 1e-6; the sum is good to some 1e-6 more.
                let error = Double(probabilities.logprob(of: Int32(token))) - (Double(logits[token]) - total)
                #expect(abs(error) < 1e-5)
            }
            for k in [0, 1, 5, 20, 21, 1000, -1] {
                let best = probabilities.mostLikely(k)
                #expect(best.map { Int($0.token) } == Array(order.prefix(max(0, min(k, 20)))))
                for scored in best { #expect(scored.logprob == probabilities.logprob(of: scored.token)) }
            }
        }
    }

    @Test("Whatever the logits, every value is a number that JSON can hold")
    func extremes() {
        let cases: [[Float]] = [
            [], [.nan], [.nan, 1, .nan, 2], [.infinity, 0], [-.infinity, -.infinity], [3e38, -3e38],
            [1, -.infinity, 2],
            [.nan, .nan, .nan],
        ]
        for logits in cases {
            logits.withUnsafeBufferPointer { buffer in
                let probabilities = TokenProbabilities(buffer)
                let best = probabilities.mostLikely(3)
                #expect(best.count == min(3, logits.count))
                #expect(Set(best.map(\.token)).count == best.count)
                for scored in best {
                    #expect(scored.logprob <= 0 && scored.logprob >= TokenProbabilities.least, "\(logits)")
                }
                #expect(probabilities.logprob(of: -1) == TokenProbabilities.least)
                #expect(probabilities.logprob(of: 99) == TokenProbabilities.least)
            }
        }
        [1, -.infinity, 2].withUnsafeBufferPointer { buffer in
            let best = TokenProbabilities(buffer).mostLikely(3)
            #expect(best.map(\.token) == [2, 0, 1] && best[2].logprob == TokenProbabilities.least)
        }
        [.nan, 1, .nan, 2].withUnsafeBufferPointer { buffer in
            #expect(TokenProbabilities(buffer).mostLikely(2).map(\.token) == [3, 1])
        }
    }
}
