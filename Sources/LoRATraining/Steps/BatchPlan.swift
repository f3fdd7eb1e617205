internal import LoRAModel

/// Which examples each optimizer step trains on. A pure value: any step can be asked for at any time, so a resumed run
/// continues where it stopped, with nothing to restore but the step's number.
///
/// Each epoch goes through all examples once, in file order or shuffled; its last batch may be smaller. A run measured
/// in steps goes through as many epochs as it takes and may end inside one.
public struct BatchPlan: Sendable, Equatable {
    /// How long a run is.
    public enum Length: Sendable, Equatable {
        case epochs(Int)
        case steps(Int)
    }

    public let exampleCount: Int
    /// Examples in one optimizer step.
    public let batchSize: Int
    /// Whether each epoch has its own order.
    public let shuffles: Bool
    /// Seed of the orders.
    public let seed: UInt64
    /// Optimizer steps in the run.
    public let stepCount: Int

    /// - Throws: `TrainingDataError` when the product of epochs and batches does not fit, or something is not positive.
    public init(exampleCount: Int, batchSize: Int, length: Length, shuffles: Bool, seed: UInt64) throws {
        guard exampleCount > 0 else { throw TrainingDataError("no examples to train on") }
        guard batchSize > 0 else { throw TrainingDataError("the batch size is \(batchSize); it must be 1 or more") }
        self.exampleCount = exampleCount
        self.batchSize = batchSize
        self.shuffles = shuffles
        self.seed = seed
        switch length {
        case .steps(let count):
            guard count > 0 else { throw TrainingDataError("\(count) steps; there must be 1 or more") }
            stepCount = count
        case .epochs(let count):
            guard count > 0 else { throw TrainingDataError("\(count) epochs; there must be 1 or more") }
            let (steps, overflow) = Self.batches(exampleCount, batchSize).multipliedReportingOverflow(by: count)
            guard !overflow else { throw TrainingDataError("\(count) epochs are more steps than can be counted") }
            stepCount = steps
        }
    }

    /// Batches in one epoch.
    public var stepsPerEpoch: Int { Self.batches(exampleCount, batchSize) }

    private static func batches(_ examples: Int, _ size: Int) -> Int { (examples - 1) / size + 1 }

    /// The epoch (from 0) that step `step` (from 0) belongs to.
    public func epoch(ofStep step: Int) -> Int { step / stepsPerEpoch }

    /// How often the data has been gone through when step `step` (from 0) is done.
    public func epochs(afterStep step: Int) -> Double {
        Double(epoch(ofStep: step)) + Double(range(ofStep: step).upperBound) / Double(exampleCount)
    }

    /// All example indices in the order of an epoch: Fisher–Yates from the last position down, drawing from stream
    /// `epoch` of `SplitMix64`. O(n).
    public func order(ofEpoch epoch: Int) -> [Int] {
        precondition(epoch >= 0, "negative epoch: \(epoch)")
        var order = Array(0..<exampleCount)
        guard shuffles else { return order }
        var generator = SplitMix64(seed: seed, stream: UInt64(epoch))
        for last in stride(from: exampleCount - 1, to: 0, by: -1) {
            order.swapAt(last, generator.next(below: last + 1))
        }
        return order
    }

    /// The examples of step `step`, from 0 up to `stepCount`. O(n) when shuffled; `batches(from:)` shuffles once an
    /// epoch.
    public func batch(atStep step: Int) -> [Int] {
        precondition((0..<stepCount).contains(step), "step \(step) of \(stepCount)")
        return Array(order(ofEpoch: epoch(ofStep: step))[range(ofStep: step)])
    }

    private func range(ofStep step: Int) -> Range<Int> {
        let first = step % stepsPerEpoch * batchSize
        return first..<min(first + batchSize, exampleCount)
    }

    /// The steps from `step` to the end of the run, each with its examples.
    public func batches(from step: Int = 0) -> Batches {
        precondition((0...stepCount).contains(step), "step \(step) of \(stepCount)")
        return Batches(plan: self, step: step)
    }

    /// An iterator over (step, examples), holding the order of the current epoch.
    public struct Batches: Sequence, IteratorProtocol, Sendable {
        private let plan: BatchPlan
        /// The step that `next` gives.
        public private(set) var step: Int
        private var current: (epoch: Int, order: [Int])?

        fileprivate init(plan: BatchPlan, step: Int) {
            self.plan = plan
            self.step = step
        }

        public mutating func next() -> (step: Int, examples: [Int])? {
            guard step < plan.stepCount else { return nil }
            let epoch = plan.epoch(ofStep: step)
            let order: [Int]
            if let current, current.epoch == epoch {
                order = current.order
            } else {
                order = plan.order(ofEpoch: epoch)
                current = (epoch, order)
            }
            defer { step += 1 }
            return (step, Array(order[plan.range(ofStep: step)]))
        }
    }
}
