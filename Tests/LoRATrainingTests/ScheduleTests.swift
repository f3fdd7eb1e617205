import Foundation
import Testing

@testable import LoRATraining

@Suite("Learning-rate schedule")
struct ScheduleTests {
    private struct Case: Decodable {
        let course: String
        let warmupSteps: Int
        let stepCount: Int
        let rates: [Double]
    }

    @Test("Every step of every course equals transformers' schedule")
    func equalsTransformers() throws {
        let cases = try TestFiles.golden("schedules.json", as: [Case].self)
        #expect(Set(cases.map(\.course)) == Set(Schedule.Course.allCases.map(\.rawValue)))
        for expected in cases {
            let schedule = Schedule(
                course: try #require(Schedule.Course(rawValue: expected.course)), peak: 1,
                warmupSteps: expected.warmupSteps, stepCount: expected.stepCount)
            #expect(expected.rates.count == expected.stepCount)
            for (step, rate) in expected.rates.enumerated() {
                // One rounding of the cosine apart at most: the order of operations is transformers'.
                #expect(
                    abs(schedule.learningRate(at: step) - rate) <= 2e-16,
                    "\(expected.course) \(expected.warmupSteps)/\(expected.stepCount) at \(step)")
            }
        }
    }

    @Test(
        "The warm-up is a part of the run, rounded up",
        arguments: [(0.03, 20, 1), (0.03, 250, 8), (0, 9, 0), (1, 5, 5)])
    func warmup(fraction: Double, steps: Int, expected: Int) {
        let schedule = Schedule(course: .linear, peak: 2e-3, warmupFraction: fraction, stepCount: steps)
        #expect(schedule.warmupSteps == expected)
    }

    @Test("The peak scales every rate; nothing is left after the last step")
    func peak() {
        let schedule = Schedule(course: .linear, peak: 2e-3, warmupFraction: 0.03, stepCount: 20)
        #expect(schedule.learningRate(at: 0) == 0)
        #expect(schedule.learningRate(at: 1) == 2e-3)
        #expect(schedule.learningRate(at: 20) == 0)
        #expect(Schedule(course: .cosine, peak: 1, warmupSteps: 0, stepCount: 4).learningRate(at: 9) == 0)
        #expect(Schedule(course: .constant, peak: 0.5, warmupSteps: 2, stepCount: 4).learningRate(at: 9) == 0.5)
    }
}
