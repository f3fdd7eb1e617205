import CKernels
public import LoRAModel
public import OrderedCollections

/// What an objective found in the examples of a step, beside their gradients.
public struct StepOutcome: Sendable {
    /// What the step minimises: for supervised examples, the mean loss per supervised token.
    public var loss: Double
    /// Tokens of the step's examples.
    public var tokens: Int
    public var supervisedTokens: Int
    /// What else the objective measures, by its names in the log.
    public var metrics: OrderedDictionary<String, Double> = [:]

    public init(loss: Double, tokens: Int, supervisedTokens: Int, metrics: OrderedDictionary<String, Double> = [:]) {
        self.loss = loss
        self.tokens = tokens
        self.supervisedTokens = supervisedTokens
        self.metrics = metrics
    }
}

/// What a step did.
public struct StepReport: Sendable {
    /// 1-based.
    public let step: Int
    public let outcome: StepOutcome
    /// What the step minimises; see `StepOutcome`.
    public var loss: Double { outcome.loss }
    /// Norm of the gradients before clipping.
    public let gradientNorm: Double
    public let learningRate: Double
    /// Tokens of the step's examples.
    public var tokens: Int { outcome.tokens }
    public var supervisedTokens: Int { outcome.supervisedTokens }
}

/// Optimises one adapter. An objective gathers the gradients of a step; the trainer clips and applies them.
public final class Trainer {
    public let pass: TrainingPass
    private let pool: ThreadPool
    private let optimizer: AdamW
    private let maximumGradientNorm: Float
    private let seed: UInt64
    private let gradients: UnsafeMutablePointer<Float>  // (parameterCount)
    private let sums: UnsafeMutableBufferPointer<Double>  // of squares of gradients, by piece
    /// Gradients of a piece of their norm.
    private static let normPiece = 1 << 18
    private var count: Int { pass.adapter.layout.parameterCount }

    /// - Parameters:
    ///   - maximumGradientNorm: gradients are scaled down to this norm; 0 for never.
    ///   - loraPlusRatio: B's learning rate, as a multiple of A's.
    public init(
        pass: TrainingPass, pool: ThreadPool, weightDecay: Float, maximumGradientNorm: Float, loraPlusRatio: Float = 1,
        seed: UInt64
    ) {
        self.pass = pass
        self.pool = pool
        self.maximumGradientNorm = maximumGradientNorm
        self.seed = seed
        let count = max(pass.adapter.layout.parameterCount, 1)
        optimizer = AdamW(
            count: pass.adapter.layout.parameterCount, weightDecay: weightDecay,
            groups: AdamW.Group.loraPlus(pass.adapter.layout, ratio: loraPlusRatio))
        gradients = .allocate(capacity: count)
        gradients.initialize(repeating: 0, count: count)
        sums = .allocate(capacity: (count + Self.normPiece - 1) / Self.normPiece)
        sums.initialize(repeating: 0)
    }

    deinit {
        gradients.deallocate()
        sums.deallocate()
    }

    /// One optimizer step over `examples`, in as many passes as memory wants. Its loss is the sum of its token losses
    /// divided by its supervised tokens, however it is cut.
    /// - Throws: `TrainingError.diverged` when loss or gradients are not finite; the adapter is then as before.
    public func step(_ examples: [Example], learningRate: Double) throws(TrainingError) -> StepReport {
        try optimize(learningRate: learningRate) { gradients, number in
            let supervised = examples.reduce(0) { $0 + $1.supervisedCount }
            var loss = 0.0
            for (index, batch) in microBatches(examples).enumerated() {
                loss += pass.run(
                    batch, gradients: gradients, scale: 1 / Float(supervised),
                    dropoutSeed: dropoutSeed(step: number, pass: index))
            }
            return StepOutcome(
                loss: loss / Double(supervised), tokens: examples.reduce(0) { $0 + $1.tokens.count },
                supervisedTokens: supervised)
        }
    }

    /// One optimizer step of any objective.
    /// - Parameter gather: adds the gradients of the step's loss to `gradients` (parameterCount), which are zero; `number`
    ///   is that of the step, from 1.
    /// - Throws: `TrainingError.diverged` when loss or gradients are not finite; the adapter is then as before.
    func optimize(
        learningRate: Double, _ gather: (_ gradients: UnsafeMutablePointer<Float>, _ number: Int) -> StepOutcome
    ) throws(TrainingError) -> StepReport {
        pool.forEachRange(of: count, multiple: 64) { range, _ in
            (gradients + range.lowerBound).update(repeating: 0, count: range.count)
        }
        let number = optimizer.steps + 1
        let outcome = gather(gradients, number)
        let norm = gradientNorm()
        guard outcome.loss.isFinite, norm.isFinite else {
            throw .diverged(step: number, loss: outcome.loss, gradientNorm: norm)
        }
        optimizer.step(
            pass.adapter.values, gradients, gradientScale: clipping(norm), learningRate: Float(learningRate),
            pool: pool)
        return StepReport(step: number, outcome: outcome, gradientNorm: norm, learningRate: learningRate)
    }

    /// The random stream of one pass of a step: a pure function, so that a resumed run draws what it would have drawn.
    func dropoutSeed(step number: Int, pass index: Int) -> UInt64 {
        var stream = SplitMix64(seed: seed &+ UInt64(number) &* 0x1_0001 &+ UInt64(index))
        return stream.next()
    }

    /// Norm of the last step's gradients in each block of the base, before clipping; zero where a block has no pairs.
    func blockGradientNorms() -> [Double] {
        let layout = pass.adapter.layout
        var squares = [Double](repeating: 0, count: pass.model.configuration.blockCount)
        squares.withUnsafeMutableBufferPointer { squares in
            pool.forEachTask(squares.count) { block, _ in
                let pairs = layout.pairs(block: block)
                guard let first = pairs.first, let last = pairs.last else { return }
                squares[block] = lora_sum_of_squares(gradients + first.offset, last.end - first.offset)
            }
        }
        return squares.map { $0.squareRoot() }
    }

    /// Everything that a step changes, each (parameterCount), by its name in a checkpoint.
    var arrays: [(name: String, values: UnsafeMutablePointer<Float>)] {
        [("values", pass.adapter.values), ("first_moments", optimizer.first), ("second_moments", optimizer.second)]
    }

    /// Goes on after step `step`, from 0, with `arrays` as they were after it.
    func resume(afterStep step: Int) { optimizer.steps = step }

    /// Summed in pieces whose number does not depend on the threads, so that neither does the norm.
    private func gradientNorm() -> Double {
        pool.forEachTask(sums.count) { piece, _ in
            let first = piece * Self.normPiece
            sums[piece] = lora_sum_of_squares(gradients + first, min(Self.normPiece, count - first))
        }
        return sums.reduce(0, +).squareRoot()
    }

    /// The gradients of the last step before clipping, for tests.
    var lastGradients: UnsafePointer<Float> { UnsafePointer(gradients) }

    /// As `torch.nn.utils.clip_grad_norm_`.
    private func clipping(_ norm: Double) -> Float {
        guard maximumGradientNorm > 0 else { return 1 }
        return min(1, maximumGradientNorm / Float(norm + 1e-6))
    }

    /// The examples in order, packed into batches of at most the pass's rows.
    private func microBatches(_ examples: [Example]) -> [PackedBatch] {
        // Dropout draws a mask for each row: copies of a prefix would have masks of their own.
        PackedBatch.packing(examples, capacity: pass.capacity, sharingPrefix: pass.dropout == 0)
    }
}

extension PackedBatch {
    /// `examples` in order, as many in each batch as fit `capacity` rows. With `sharingPrefix`, tokens that all of them
    /// begin with are computed once in each batch.
    static func packing(_ examples: [Example], capacity: Int, sharingPrefix: Bool) -> [PackedBatch] {
        let examples = examples.filter { $0.supervisedCount > 0 }
        let prefix = sharingPrefix ? commonPrefix(examples) : []
        var batches: [PackedBatch] = []
        var batch = PackedBatch(prefix: prefix)
        for example in examples {
            let rows = PackedBatch.rowsNeeded(supervised: example.supervised)
            precondition(rows <= capacity, "an example of \(rows) rows in a pass of \(capacity)")
            if batch.tokens.count + rows - prefix.count > capacity {
                batches.append(batch)
                batch = PackedBatch(prefix: prefix)
            }
            batch.append(tokens: example.tokens, supervised: example.supervised)
        }
        if !batch.targets.isEmpty { batches.append(batch) }
        return batches
    }

    /// The tokens that all examples begin with, up to the row that predicts the first supervised one; empty when it is
    /// not worth the trouble.
    static func commonPrefix(_ examples: [Example]) -> ArraySlice<Int32> {
        guard let first = examples.first, examples.count > 1 else { return [] }
        var count = first.tokens.count
        for example in examples {
            let unsupervised = (example.supervised.firstIndex(of: true) ?? 1) - 1
            count = min(count, unsupervised, zip(first.tokens, example.tokens).prefix { $0 == $1 }.count)
        }
        return count < 4 ? [] : first.tokens[..<count]
    }
}

/// Why training stopped.
public enum TrainingError: Error, CustomStringConvertible, Sendable {
    case diverged(step: Int, loss: Double, gradientNorm: Double)

    public var description: String {
        switch self {
        case .diverged(let step, let loss, let norm):
            "training diverged at step \(step): loss \(loss), gradient norm \(norm); lower --learning-rate"
        }
    }
}
