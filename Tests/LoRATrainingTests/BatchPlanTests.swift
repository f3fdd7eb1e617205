import LoRAModel
import Testing

@testable import LoRATraining

@Suite("Batches")
struct BatchPlanTests {
    @Test("SplitMix64 gives the published numbers")
    func splitMix() {
        var generator = SplitMix64(seed: 1_234_567)
        let expected: [UInt64] = [
            6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423,
            4_593_380_528_125_082_431, 16_408_922_859_458_223_821,
        ]
        #expect(expected.map { _ in generator.next() } == expected)
    }

    @Test("Bounded draws stay below the bound and reach every value", arguments: [1, 2, 3, 7, 10])
    func bounded(bound: Int) {
        var generator = SplitMix64(seed: 3, stream: 0)
        var counts = Array(repeating: 0, count: bound)
        for _ in 0..<(bound * 200) { counts[generator.next(below: bound)] += 1 }
        #expect(counts.allSatisfy { (120...280).contains($0) })
    }

    @Test("Times through the data count what is done, the smaller last batch too")
    func epochsDone() throws {
        let plan = try BatchPlan(exampleCount: 10, batchSize: 4, length: .epochs(2), shuffles: true, seed: 0)
        #expect((0..<6).map { plan.epochs(afterStep: $0) } == [0.4, 0.8, 1, 1.4, 1.8, 2])
    }

    @Test("The orders are the ones written down, computed by another program")
    func orders() throws {
        let plan = try BatchPlan(exampleCount: 10, batchSize: 4, length: .epochs(2), shuffles: true, seed: 0)
        #expect(plan.order(ofEpoch: 0) == [0, 1, 4, 6, 3, 9, 8, 7, 2, 5])
        #expect(plan.order(ofEpoch: 1) == [5, 3, 8, 2, 4, 1, 7, 9, 6, 0])
        let other = try BatchPlan(exampleCount: 10, batchSize: 4, length: .epochs(2), shuffles: true, seed: 42)
        #expect(other.order(ofEpoch: 0) == [4, 6, 7, 0, 9, 5, 1, 2, 3, 8])
    }

    @Test(
        "Each epoch trains on every example once, in batches of which only the last may be smaller",
        arguments: [(1, 1), (5, 16), (16, 16), (17, 16), (100, 7)], [false, true])
    func epochs(counts: (examples: Int, batch: Int), shuffles: Bool) throws {
        let plan = try BatchPlan(
            exampleCount: counts.examples, batchSize: counts.batch, length: .epochs(3), shuffles: shuffles, seed: 9)
        #expect(plan.stepsPerEpoch == (counts.examples + counts.batch - 1) / counts.batch)
        #expect(plan.stepCount == 3 * plan.stepsPerEpoch)
        let batches = plan.batches().map(\.examples)
        #expect(batches.count == plan.stepCount)
        for epoch in 0..<3 {
            let steps = batches[epoch * plan.stepsPerEpoch..<(epoch + 1) * plan.stepsPerEpoch]
            #expect(steps.flatMap { $0 }.sorted() == Array(0..<counts.examples))
            #expect(steps.dropLast().allSatisfy { $0.count == counts.batch })
            #expect(steps.last?.isEmpty == false)
            if !shuffles { #expect(steps.flatMap { $0 } == Array(0..<counts.examples)) }
        }
    }

    @Test("Epochs have different orders; the same seed has the same")
    func shuffling() throws {
        func plan(seed: UInt64) throws -> BatchPlan {
            try BatchPlan(exampleCount: 50, batchSize: 8, length: .epochs(2), shuffles: true, seed: seed)
        }
        let first = try plan(seed: 1)
        #expect(first.order(ofEpoch: 0) != first.order(ofEpoch: 1))
        #expect(first.order(ofEpoch: 0) == (try plan(seed: 1).order(ofEpoch: 0)))
        #expect(first.order(ofEpoch: 0) != (try plan(seed: 2).order(ofEpoch: 0)))
    }

    @Test("A run in steps may end inside an epoch, and goes through as many as it takes")
    func steps() throws {
        let plan = try BatchPlan(exampleCount: 10, batchSize: 4, length: .steps(5), shuffles: false, seed: 0)
        #expect(
            plan.batches().map(\.examples) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [0, 1, 2, 3], [4, 5, 6, 7]])
    }

    @Test("From any step on, a resumed run gets the batches of an uninterrupted one")
    func resuming() throws {
        let plan = try BatchPlan(exampleCount: 21, batchSize: 4, length: .epochs(3), shuffles: true, seed: 5)
        let whole = plan.batches().map(\.examples)
        for step in 0...plan.stepCount {
            let rest = Array(plan.batches(from: step))
            #expect(rest.map(\.examples) == Array(whole[step...]))
            #expect(rest.map(\.step) == Array(step..<plan.stepCount))
            if step < plan.stepCount { #expect(plan.batch(atStep: step) == whole[step]) }
        }
    }

    @Test("Nothing to train on, and lengths that are not positive or too many, are refused")
    func refusals() {
        #expect(throws: TrainingDataError.self) {
            try BatchPlan(exampleCount: 0, batchSize: 1, length: .epochs(1), shuffles: false, seed: 0)
        }
        for length in [BatchPlan.Length.epochs(0), .steps(0), .steps(-1), .epochs(.max)] {
            #expect(throws: TrainingDataError.self) {
                try BatchPlan(exampleCount: 9, batchSize: 2, length: length, shuffles: false, seed: 0)
            }
        }
        #expect(throws: TrainingDataError.self) {
            try BatchPlan(exampleCount: 9, batchSize: 0, length: .epochs(1), shuffles: false, seed: 0)
        }
    }
}
