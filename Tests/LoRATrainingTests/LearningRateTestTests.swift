import Foundation
import Testing

@testable import LoRATraining

@Suite("Learning-rate range test")
struct LearningRateTestTests {
    private func points(_ loss: (_ exponent: Double) -> Double) -> [LearningRateTest.Point] {
        (0..<61).map { index in
            let loss = loss(-6 + Double(index) / 10)
            return .init(learningRate: LearningRateTest.rate(step: index, of: 61), loss: loss, smoothedLoss: loss)
        }
    }

    @Test("Rates grow by one factor, from the first to the last")
    func rates() {
        let rates = (0..<7).map { LearningRateTest.rate(step: $0, of: 7) }
        for (index, rate) in rates.enumerated() {
            let expected = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1][index]
            #expect(abs(rate - expected) < 1e-9 * expected)
        }
        #expect(LearningRateTest.rate(step: 0, of: 1) == 1e-6)
    }

    @Test("The suggestion is where the loss falls fastest, before it is lowest")
    func suggestion() throws {
        // Down along a sigmoid that is steepest at 1e-3; from 1e-2 on up, more steeply than it fell.
        let result = LearningRateTest.result(
            points { exponent in
                exponent < -2 ? 4 - 2 / (1 + exp(-4 * (exponent + 3))) : 2.1 + 5 * (exponent + 2)
            }, diverged: 1)
        let rate = try #require(result.suggestion)
        #expect(abs(rate - 1e-3) < 1e-6, "\(rate)")
        #expect(try #require(result.lowest) > rate)
        #expect(result.diverged == 1)
    }

    @Test("A loss that does not fall suggests nothing; nor do no points")
    func nothing() {
        #expect(LearningRateTest.result(points { 3 + $0 / 100 }, diverged: nil).suggestion == nil)
        #expect(LearningRateTest.result([], diverged: 1e-6).suggestion == nil)
        #expect(LearningRateTest.result([], diverged: 1e-6).lowest == nil)
    }
}
