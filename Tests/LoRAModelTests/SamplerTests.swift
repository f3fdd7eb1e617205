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

    /// What the filters leave, by the definition: everything sorted, one filter after the other.
    func kept(_ logits: [Float], _ options: SamplingOptions) -> Set<Int32> {
        let largest = logits.max() ?? 0
        let weights = logits.map { exp((Double($0) - Double(largest)) / Double(options.temperature)) }
        var order = logits.indices.sorted { logits[$0] == logits[$1] ? $0 < $1 : logits[$0] > logits[$1] }
        if options.topK > 0 { order = Array(order.prefix(options.topK)) }
        let total = order.reduce(0) { $0 + weights[$1] }
        var sum = 0.0
        if options.topP < 1 {
            let count = order.firstIndex {
                sum += weights[$0]; return sum >= Double(options.topP) * total
            }
            order = Array(order.prefix((count ?? order.count) + 1))
        }
        return Set(order.filter { weights[$0] >= Double(options.minP) }.map { Int32($0) })
    }

    @Test(
        "Of large vocabularies, peaked and flat, the filters keep what sorting everything would",
        arguments: [1, 40, 64, 777, 4099, 49_152] as [Int], [0.1, 1, 8] as [Float])
    func keptOfMany(count: Int, spread: Float) {
        var random = SplitMix64(seed: UInt64(count))
        let logits = (0..<count).map { _ in (random.nextUnit() + random.nextUnit() + random.nextUnit()) * spread }
        for (topK, topP, minP) in [
            (1, 1, 0), (2, 1, 0), (40, 1, 0), (1000, 1, 0), (count - 1, 1, 0), (0, 0.9, 0), (0, 0.1, 0), (0, 0.999, 0),
            (0, 1, 0.05), (0, 1, 0.9), (40, 0.7, 0), (2000, 0.95, 0.02), (0, 0.95, 0.3), (0, 0, 0), (count + 1, 0.5, 0),
        ] as [(Int, Float, Float)] {
            let options = SamplingOptions(temperature: 0.8, topK: topK, topP: topP, minP: minP)
            // Where no filter does anything, nothing is gathered.
            if topK == 0 || topK >= count, topP == 1, minP == 0 { continue }
            var sampler = Sampler(options)
            let token = logits.withUnsafeBufferPointer { sampler.next($0) }
            let expected = kept(logits, options)
            let actual = Set(sampler.weights.candidates.map(\.token))
            // Rounding may move a limit by a token.
            let difference = expected.symmetricDifference(actual)
            #expect(
                difference.count <= (topP < 1 || minP > 0 ? 1 : 0),
                "top-k \(topK), top-p \(topP), min-p \(minP): \(difference.count)")
            #expect(actual.contains(token))
            if topP == 1, minP == 0, topK > 0, topK < count { #expect(actual.count == topK) }
        }
    }

    @Test("Of equals at a limit the lowest are kept")
    func equals() {
        let logits = (0..<5000).map { Float($0 % 3 == 1 ? 2 : 1) }
        #expect(drawn(logits, .init(temperature: 1, topK: 3)) == [1, 4, 7])
        let share = 1667 * 1.0 / (1667 + 3333 * exp(-1))
        var sampler = Sampler(.init(temperature: 1, topP: Float(share / 1667 * 2.5)))
        _ = logits.withUnsafeBufferPointer { sampler.next($0) }
        #expect(sampler.weights.candidates.map(\.token) == [1, 4, 7])
    }

    @Test("Draws without filters from a large vocabulary follow the probabilities of its parts")
    func largeVocabulary() {
        let count = 49_152 - 7
        let logits = (0..<count).map { Float($0 % 8) }
        let weights = (0..<8).map { exp(Double($0)) }
        var sampler = Sampler(.init(temperature: 1, seed: 3))
        var classes = [Int](repeating: 0, count: 8)
        var quarters = [Int](repeating: 0, count: 4)
        logits.withUnsafeBufferPointer { logits in
            for _ in 0..<8000 {
                let token = Int(sampler.next(logits))
                classes[token % 8] += 1
                quarters[token * 4 / count] += 1
            }
        }
        let expected = weights.map { 8000 * $0 / weights.reduce(0, +) } + [Double](repeating: 2000, count: 4)
        for (count, expected) in zip(classes + quarters, expected) {
            // Five standard deviations of a Poisson count.
            #expect(abs(Double(count) - expected) <= 5 * max(expected, 1).squareRoot())
        }
    }

    @Test("Penalties count what was chosen, once or every time")
    func penalties() {
        func tokens(_ logits: [Float], _ options: SamplingOptions, _ count: Int) -> [Int32] {
            var sampler = Sampler(options)
            return logits.withUnsafeBufferPointer { logits in (0..<count).map { _ in sampler.next(logits) } }
        }
        #expect(tokens([3, 2.5, 0], .init(presencePenalty: 1), 4) == [0, 1, 0, 0])
        #expect(tokens([3, 2.5, 0], .init(frequencyPenalty: 1), 6) == [0, 1, 0, 1, 0, 1])
        #expect(tokens([3, 2.5, 1], .init(frequencyPenalty: 1, presencePenalty: 1), 4) == [0, 1, 0, 2])
        #expect(tokens([3, 2.5, 0], .init(presencePenalty: -1), 3) == [0, 0, 0])
        #expect(tokens([3, 2, 0], .init(temperature: 1e-3, frequencyPenalty: 2), 3) == [0, 1, 0])
    }

    @Test("Bias counts for the most likely token and for draws; tokens outside the vocabulary do nothing")
    func bias() {
        #expect(drawn(Self.logits, .init(logitBias: [4: 100, 5: 100, -1: 100, .max: 1])) == [4])
        #expect(drawn(Self.logits, .init(temperature: 1, logitBias: [1: -100, 3: -100])) == [0, 2, 4])
        let biased = counts(Self.logits, .init(temperature: 1, logitBias: [2: Float(log(8.0))], seed: 7))
        // .05 · 8 = .4 of 1.35: 5926 times, with a standard deviation of 65.
        #expect(abs(biased[2] - 5926) < 4 * 65)
        #expect(drawn(Self.logits, .init(temperature: 1, logitBias: [0: .infinity])) == [0])
        #expect(drawn(Self.logits, .init(temperature: 1, logitBias: [0: .nan])) == [1, 2, 3, 4])
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
        for options in [SamplingOptions(), .init(temperature: 1), .init(temperature: 0.5, topP: 0.9)] {
            #expect(drawn([.nan, 1, -3], .init(temperature: 1, topK: 1)) == [1])
            #expect(drawn([0, .infinity, .nan], options) == [1])
            #expect(drawn([.nan, .nan], options) == [0])
        }
        #expect(drawn([1, 2, -.infinity], .init(temperature: .infinity)) == [0, 1])
        #expect(drawn([1, 2, 3], .init(temperature: .leastNonzeroMagnitude)) == [2])
        #expect(drawn([1, 2, 3], .init(temperature: .nan)) == [2])
    }
}
