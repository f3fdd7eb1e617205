internal import Glibc

/// The learning rate of every optimizer step: a warm-up from zero, then one of three courses.
///
/// The definitions are those of transformers' `get_linear_schedule_with_warmup`, `get_cosine_schedule_with_warmup` and
/// `get_constant_schedule_with_warmup`, so that runs can be compared step by step. With step t counted from 0, W steps
/// of warm-up and N steps in all:
///
/// - t < W: peak · t / W, in all three (so the first step of a warm-up moves nothing);
/// - linear: peak · (N − t) / (N − W);
/// - cosine: peak · (1 + cos(π (t − W) / (N − W))) / 2;
/// - constant: peak.
public struct Schedule: Sendable, Equatable {
    /// What the rate does after the warm-up.
    public enum Course: String, Sendable, CaseIterable {
        case linear, cosine, constant
    }

    public let course: Course
    /// The highest rate, reached at the end of the warm-up.
    public let peak: Double
    /// W, at most `stepCount`.
    public let warmupSteps: Int
    /// N.
    public let stepCount: Int

    /// - Parameter warmupFraction: the part of all steps that warms up, rounded up to whole steps.
    public init(course: Course, peak: Double, warmupFraction: Double, stepCount: Int) {
        precondition((0...1).contains(warmupFraction), "warm-up \(warmupFraction) is not between 0 and 1")
        self.init(
            course: course, peak: peak,
            warmupSteps: Int((warmupFraction * Double(stepCount)).rounded(.up)), stepCount: stepCount)
    }

    public init(course: Course, peak: Double, warmupSteps: Int, stepCount: Int) {
        precondition(stepCount >= 0, "negative number of steps: \(stepCount)")
        precondition(warmupSteps >= 0, "negative number of warm-up steps: \(warmupSteps)")
        self.course = course
        self.peak = peak
        self.warmupSteps = min(warmupSteps, stepCount)
        self.stepCount = stepCount
    }

    /// The rate of optimizer step `step`, counted from 0; never negative, zero after the last step unless constant.
    public func learningRate(at step: Int) -> Double {
        precondition(step >= 0, "negative step: \(step)")
        if step < warmupSteps { return peak * (Double(step) / Double(warmupSteps)) }
        let rest = Double(max(1, stepCount - warmupSteps))
        switch course {
        case .constant: return peak
        case .linear: return peak * max(0, Double(stepCount - step) / rest)
        case .cosine:
            guard step < stepCount else { return 0 }
            return peak * max(0, 0.5 * (1 + cos(.pi * (Double(step - warmupSteps) / rest))))
        }
    }
}
