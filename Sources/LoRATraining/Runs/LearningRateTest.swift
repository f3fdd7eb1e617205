internal import Glibc
public import LoRAModel

/// A learning-rate range test (arXiv 1506.01186): the rate grows by the same factor from step to step, until the loss
/// does. Where the loss falls fastest is a good rate to train with. Nothing is written.
public final class LearningRateTest {
    /// One step of the test.
    public struct Point: Sendable, Equatable {
        public let learningRate: Double
        public let loss: Double
        /// Running mean of the losses.
        public let smoothedLoss: Double
    }

    /// What the test found.
    public struct Result: Sendable, Equatable {
        public let points: [Point]
        /// Where the smoothed loss falls fastest; nil when it does not fall.
        public let suggestion: Double?
        /// Where the smoothed loss is lowest.
        public let lowest: Double?
        /// The rate that the test ended at because the loss had grown too much; nil when it ended by itself.
        public let diverged: Double?
    }

    /// The first and the last rate.
    public static let rates = 1e-6...1.0
    /// Steps unless the user says otherwise.
    public static let defaultSteps = 100

    /// Share of the running mean that stays in each step.
    private static let smoothing = 0.9
    /// A smoothed loss this many times the lowest ends the test.
    private static let limit = 2.0
    /// Points on either side that a slope is taken over.
    private static let reach = 4

    private let setup: TrainingSetup
    private let trainer: Trainer
    private let objective: PreferenceObjective?

    /// - Throws: `FormatError` when the memory cannot be had, or is more than the user allows.
    public init(_ setup: TrainingSetup, pool: ThreadPool) throws {
        self.setup = setup
        trainer = try setup.makeTrainer(pool: pool)
        objective = setup.makeObjective()
    }

    /// Runs the steps of the setup's plan.
    /// - Parameter isInterrupted: asked before each step; the points so far count then.
    public func run(isInterrupted: () -> Bool) -> Result {
        var points: [Point] = []
        var (mean, lowest) = (0.0, Double.infinity)
        for (step, indices) in setup.plan.batches() {
            if isInterrupted() { break }
            let rate = Self.rate(step: step, of: setup.plan.stepCount)
            let report = try? trainer.step(indices, of: setup.dataset, objective: objective, learningRate: rate)
            guard let report else { return Self.result(points, diverged: rate) }
            mean = Self.smoothing * mean + (1 - Self.smoothing) * report.loss
            // The mean begins at zero; dividing takes that out again.
            let smoothed = mean / (1 - pow(Self.smoothing, Double(step + 1)))
            points.append(Point(learningRate: rate, loss: report.loss, smoothedLoss: smoothed))
            lowest = min(lowest, smoothed)
            if smoothed > Self.limit * lowest { return Self.result(points, diverged: rate) }
        }
        return Self.result(points, diverged: nil)
    }

    /// The rate of step `step`, from 0, of `count`.
    static func rate(step: Int, of count: Int) -> Double {
        let share = count > 1 ? Double(step) / Double(count - 1) : 0
        return rates.lowerBound * pow(rates.upperBound / rates.lowerBound, share)
    }

    static func result(_ points: [Point], diverged: Double?) -> Result {
        let lowest = points.indices.min { points[$0].smoothedLoss < points[$1].smoothedLoss }
        var best: (slope: Double, index: Int)?
        for index in points.indices.prefix((lowest ?? 0) + 1) {
            let (left, right) = (max(0, index - reach), min(points.count - 1, index + reach))
            guard right > left else { continue }
            let rise = points[right].smoothedLoss - points[left].smoothedLoss
            let slope = rise / log(points[right].learningRate / points[left].learningRate)
            if slope < best?.slope ?? 0 { best = (slope, index) }
        }
        return Result(
            points: points, suggestion: best.map { points[$0.index].learningRate },
            lowest: lowest.map { points[$0].learningRate }, diverged: diverged)
    }
}
