import CKernels
public import LoRAModel

/// What a step did.
public struct StepReport: Sendable {
    /// 1-based.
    public let step: Int
    /// Mean loss per supervised token of the step.
    public let loss: Double
    /// Norm of the gradients before clipping.
    public let gradientNorm: Double
    public let learningRate: Double
    /// Tokens of the step's examples.
    public let tokens: Int
    public let supervisedTokens: Int
}

/// Optimises one adapter: an optimizer step over some examples, in as many passes as memory wants. The loss of a step is
/// the sum of its token losses divided by its supervised tokens, however it is cut.
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

    /// - Parameter maximumGradientNorm: gradients are scaled down to this norm; 0 for never.
    public init(pass: TrainingPass, pool: ThreadPool, weightDecay: Float, maximumGradientNorm: Float, seed: UInt64) {
        self.pass = pass
        self.pool = pool
        self.maximumGradientNorm = maximumGradientNorm
        self.seed = seed
        let count = max(pass.adapter.layout.parameterCount, 1)
        optimizer = AdamW(count: pass.adapter.layout.parameterCount, weightDecay: weightDecay)
        gradients = .allocate(capacity: count)
        gradients.initialize(repeating: 0, count: count)
        sums = .allocate(capacity: (count + Self.normPiece - 1) / Self.normPiece)
        sums.initialize(repeating: 0)
    }

    deinit {
        gradients.deallocate()
        sums.deallocate()
    }

    /// One optimizer step over `examples`.
    /// - Throws: `TrainingError.diverged` when loss or gradients are not finite; the adapter is then as before.
    public func step(_ examples: [Example], learningRate: Double) throws(TrainingError) -> StepReport {
        pool.forEachRange(of: count, multiple: 64) { range, _ in
            (gradients + range.lowerBound).update(repeating: 0, count: range.count)
        }
        let supervised = examples.reduce(0) { $0 + $1.supervisedCount }
        let number = optimizer.steps + 1
        var loss = 0.0
        for (index, batch) in microBatches(examples).enumerated() {
            var stream = SplitMix64(seed: seed &+ UInt64(number) &* 0x1_0001 &+ UInt64(index))
            loss += pass.run(batch, gradients: gradients, scale: 1 / Float(supervised), dropoutSeed: stream.next())
        }
        loss /= Double(supervised)
        let norm = gradientNorm()
        guard loss.isFinite, norm.isFinite else { throw .diverged(step: number, loss: loss, gradientNorm: norm) }
        optimizer.step(
            pass.adapter.values, gradients, gradientScale: clipping(norm), learningRate: Float(learningRate),
            pool: pool)
        return StepReport(
            step: number, loss: loss, gradientNorm: norm, learningRate: learningRate,
            tokens: examples.reduce(0) { $0 + $1.tokens.count }, supervisedTokens: supervised)
    }

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
    private static func commonPrefix(_ examples: [Example]) -> ArraySlice<Int32> {
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
