import Foundation
import Testing

@testable import LoRAModel

@Suite("Sampler")
struct SamplerTests {
    /// How often each token is drawn.
    func counts(_ logits: [Float], _ options: SamplingOptions, draws: Int = 20_000) -> [Int] {
        var sampler = Sampler(options)
        var counts = [Int](repeating: 0, count: logits.count)
        logits.withUnsafeBufferPointer { logits in
            for _ in 0..<draws { counts[Int(sampler.next(logits))] += 1 }
        }
        return counts
    }

    func drawn(_ logits: [Float], _ options: SamplingOptions) -> Set<Int> {
        let counts = counts(logits, options, draws: 4000)
        return Set(counts.indices.filter { counts[$0] > 0 })
    }

    /// Probabilities .4 .3 .15 .1 .05, shuffled.
    static let logits = [0.1, 0.4, 0.05, 0.3, 0.15].map { Float(log($0)) + 3 }

    @Test("Frequencies follow the temperature", arguments: [0.5, 1, 2] as [Float])
    func temperature(temperature: Float) {
        let weights = Self.logits.map { exp(Double($0) / Double(temperature)) }
        let total = weights.reduce(0, +)
        let counts = counts(Self.logits, .init(temperature: temperature, seed: 5))
        let chi = zip(counts, weights).reduce(0.0) { sum, pair in
            let expected = 20_000 * pair.1 / total
            return sum + pow(Double(pair.0) - expected, 2) / expected
        }
        // Four degrees of freedom: beyond 23.5 once in ten thousand seeds, and the seed is fixed.
        #expect(chi < 23.5)
    }

    @Test("Temperature 0 and top-k 1 take the most likely, the lowest of equals")
    func greedy() {
        #expect(drawn(Self.logits, .init()) == [1])
        #expect(drawn(Self.logits, .init(temperature: 1, topK: 1)) == [1])
        #expect(drawn([1, 2, 2, 0], .init()) == [1])
        #expect(drawn([1, 2, 2, 0], .init(temperature: 1, topK: 1)) == [1])
    }

    @Test("Top-k, top-p and min-p keep the right tokens")
    func kept() {
        #expect(drawn(Self.logits, .init(temperature: 1, topK: 2)) == [1, 3])
        #expect(drawn(Self.logits, .init(temperature: 1, topK: 99)) == [0, 1, 2, 3, 4])
        // .4 < .5 <= .7: the fewest that reach it are two.
        #expect(drawn(Self.logits, .init(temperature: 1, topP: 0.5)) == [1, 3])
        #expect(drawn(Self.logits, .init(temperature: 1, topP: 0.39)) == [1])
        #expect(drawn(Self.logits, .init(temperature: 1, topP: 0.72)) == [1, 3, 4])
        #expect(drawn(Self.logits, .init(temperature: 1, topP: 0)) == [1])
        // The first of two equals has exactly half.
        #expect(drawn([2, 2], .init(temperature: 1, topP: 0.5)) == [0])
        // .15 / .4 = .375, .1 / .4 = .25
        #expect(drawn(Self.logits, .init(temperature: 1, minP: 0.3)) == [1, 3, 4])
        #expect(drawn(Self.logits, .init(temperature: 1, minP: 0.2)) == [0, 1, 3, 4])
        #expect(drawn(Self.logits, .init(temperature: 1, minP: 2)) == [1])
        // Of the two that top-k leaves, the first has 4/7 of what is left.
        #expect(drawn(Self.logits, .init(temperature: 1, topK: 2, topP: 0.5)) == [1])
    }

    @Test("The kept tokens keep their odds")
    func odds() {
        let counts = counts(Self.logits, .init(temperature: 1, topK: 2, seed: 9))
        // Binomial with p = 4/7: a standard deviation of 70.
        #expect(abs(Double(counts[1]) - 20_000 * 4 / 7) < 4 * 70)
    }

    @Test("A seed gives its tokens again; another gives others")
    func seeds() {
        func tokens(_ seed: UInt64) -> [Int32] {
            var sampler = Sampler(.init(temperature: 1, seed: seed))
            return Self.logits.withUnsafeBufferPointer { logits in (0..<50).map { _ in sampler.next(logits) } }
        }
        #expect(tokens(1) == tokens(1))
        #expect(tokens(1) != tokens(2))
    }

    @Test("Logits at the edges of f32 give a token, never a crash")
    func extremes() {
        let cases: [[Float]] = [[.infinity, 0], [-.infinity, -.infinity], [.nan, 1], [3e38, -3e38], [0]]
        for logits in cases {
            for options in [SamplingOptions(), .init(temperature: 1, topP: 0.5, minP: 0.1), .init(temperature: 1e-30)] {
                let drawn = drawn(logits, options)
                #expect(drawn.isSubset(of: Set(logits.indices)))
            }
        }
        #expect(drawn([3e38, -3e38], .init(temperature: 1)) == [0])
    }
}
