import CKernels

/// What training keeps of the forward pass.
public enum Checkpointing: String, Sendable, CaseIterable {
    /// Everything within memory, else what is dear to compute again, else block inputs.
    case auto
    /// Block inputs; the rest is computed again.
    case on
    /// Everything.
    case off
}

/// Forward and backward of packed batches through the frozen base and one adapter. All memory is one arena, made once.
public final class TrainingPass {
    public let model: BaseModel
    public let adapter: AdapterParameters
    public let compute: Compute
    /// Rows that a batch may have.
    public let capacity: Int
    /// Share of the branches' inputs that `run` drops.
    public let dropout: Float
    /// Whether parts of the blocks are computed again on the way back.
    public var checkpoints: Bool { tape != .everything }
    var tape: Activations.Tape { activations.tape }
    /// Which library multiplies matrices.
    public var engineName: String { product.engineName }
    /// Seconds spent so far.
    public private(set) var phases = Phases()

    private let arena: Arena
    private let product: MatrixProduct
    private let activations: Activations
    private let trained: TrainedAdapter
    private let forward: BlockForward
    private let attention: SegmentAttention
    private let backward: BlockBackward
    private let lossHead: LossHead

    /// Seconds in each part of the work.
    public struct Phases: Sendable {
        public var forward = 0.0
        public var loss = 0.0
        public var backward = 0.0

        public init() {}

        public static func - (left: Phases, right: Phases) -> Phases {
            var difference = left
            difference.forward -= right.forward
            difference.loss -= right.loss
            difference.backward -= right.backward
            return difference
        }
    }

    /// What decides how much memory a pass takes.
    public struct Plan: Sendable {
        public var compute: Compute
        /// Rows of the largest batch.
        public var rows: Int
        /// Positions of the longest example.
        public var positions: Int
        public var dropout: Float
        public var checkpointing: Checkpointing
        /// Bytes that the pass may take, for `checkpointing` `.auto`; nil for no bound.
        public var memory: Int?

        public init(
            compute: Compute, rows: Int, positions: Int, dropout: Float = 0, checkpointing: Checkpointing = .auto,
            memory: Int? = nil
        ) {
            self.compute = compute
            self.rows = rows
            self.positions = positions
            self.dropout = dropout
            self.checkpointing = checkpointing
            self.memory = memory
        }
    }

    /// - Throws: `FormatError` when the memory cannot be had.
    public init(model: BaseModel, adapter: AdapterParameters, pool: ThreadPool, plan: Plan) throws {
        self.model = model
        self.adapter = adapter
        compute = plan.compute
        capacity = plan.rows
        dropout = plan.dropout
        let rows = MatrixProduct.paddedRows(plan.rows)
        let tape = Self.tape(model.configuration, adapter.layout, plan, threads: pool.count)
        arena = try Arena(
            capacity: Self.arenaBytes(model.configuration, adapter.layout, plan, tape: tape, threads: pool.count))
        product = MatrixProduct(pool: pool, compute: plan.compute)
        activations = Activations(
            arena: arena, configuration: model.configuration, compute: plan.compute, rows: rows,
            rankSum: TrainedAdapter.rankSum(adapter.layout), tape: tape)
        trained = TrainedAdapter(
            arena: arena, model: model, parameters: adapter, activations: activations, product: product,
            dropout: plan.dropout,
            widestInput: max(model.configuration.feedForwardSize, model.configuration.querySize))
        forward = BlockForward(
            arena: arena, model: model, product: product, rotary: RotaryTable(model: model, positions: plan.positions),
            activations: activations, lowRank: trained)
        attention = SegmentAttention(
            arena: arena, configuration: model.configuration, compute: plan.compute, pool: pool,
            activations: activations)
        backward = BlockBackward(arena: arena, forward: forward, adapter: trained, attention: attention)
        lossHead = LossHead(arena: arena, model: model, product: product, capacity: plan.rows)
    }

    /// Sum of the losses of `batch`'s targets; the gradient of `scale` times that sum ADDS to `gradients`
    /// (parameterCount).
    /// - Parameter dropoutSeed: the stream that this batch's dropout draws from.
    public func run(
        _ batch: PackedBatch, gradients: UnsafeMutablePointer<Float>, scale: Float, dropoutSeed: UInt64
    ) -> Double {
        run(batch, gradients: gradients, dropoutSeed: dropoutSeed) { x, dx in
            lossHead.run(x, batch, dx: dx, scale: scale)
        }
    }

    /// The gradient of a function of the losses of `batch`'s targets ADDS to `gradients` (parameterCount).
    /// - Parameter differentiate: gets the losses, one for each target, and leaves the function's derivatives by them in
    ///   their place.
    public func run(
        _ batch: PackedBatch, gradients: UnsafeMutablePointer<Float>, dropoutSeed: UInt64,
        differentiate: (UnsafeMutableBufferPointer<Float>) -> Void
    ) {
        _ = run(batch, gradients: gradients, dropoutSeed: dropoutSeed) { x, dx in
            lossHead.run(x, batch, dx: dx, differentiate: differentiate)
            return 0
        }
    }

    private func run(
        _ batch: PackedBatch, gradients: UnsafeMutablePointer<Float>, dropoutSeed: UInt64,
        head: (_ x: UnsafePointer<Float>, _ dx: UnsafeMutablePointer<Float>) -> Double
    ) -> Double {
        guard !batch.targets.isEmpty else { return 0 }
        trained.dropoutSeed = dropoutSeed
        let (last, C) = (model.configuration.blockCount, model.configuration.hiddenSize)
        Self.time(&phases.forward) { runForward(batch) }
        let loss = Self.time(&phases.loss) {
            backward.dx.values().update(repeating: 0, count: batch.tokens.count * C)
            return head(activations.residual(last), backward.dx.values())
        }
        Self.time(&phases.backward) { runBackward(batch, gradients: gradients) }
        return loss
    }

    private func runBackward(_ batch: PackedBatch, gradients: UnsafeMutablePointer<Float>) {
        guard let lowest = adapter.layout.pairs.first?.block else { return }
        for index in (lowest..<model.configuration.blockCount).reversed() {
            backward.run(index, batch, gradients: gradients, isLowest: index == lowest)
        }
    }

    private static func time<Value>(_ seconds: inout Double, _ body: () -> Value) -> Value {
        let start = ContinuousClock.now
        defer { seconds += (ContinuousClock.now - start) / .seconds(1) }
        return body()
    }

    /// Sum of the losses of `batch`'s targets, without dropout.
    public func evaluate(_ batch: PackedBatch) -> Double {
        guard !batch.targets.isEmpty else { return 0 }
        trained.dropoutSeed = nil
        runForward(batch)
        return lossHead.run(activations.residual(model.configuration.blockCount), batch, dx: nil, scale: 0)
    }

    /// The loss of each of `batch`'s targets, without dropout.
    public func losses(_ batch: PackedBatch) -> [Float] {
        guard !batch.targets.isEmpty else { return [] }
        trained.dropoutSeed = nil
        runForward(batch)
        return Array(lossHead.losses(activations.residual(model.configuration.blockCount), batch))
    }

    private func runForward(_ batch: PackedBatch) {
        precondition(batch.tokens.count <= capacity, "\(batch.tokens.count) rows in a pass of \(capacity)")
        trained.magnitudes?.update()
        forward.embed(batch.tokens)
        attention.prepare(batch)
        for index in 0..<model.configuration.blockCount {
            forward.run(index, positions: batch.positions, attendsSealed: true) { attention.forward(index) }
        }
    }
}

extension TrainingPass {
    /// Bytes of buffers that a pass would take.
    public static func memory(
        _ configuration: ModelConfiguration, _ layout: AdapterLayout, _ plan: Plan, threads: Int
    ) -> Int {
        let tape = tape(configuration, layout, plan, threads: threads)
        return arenaBytes(configuration, layout, plan, tape: tape, threads: threads)
    }

    private static func tape(
        _ configuration: ModelConfiguration, _ layout: AdapterLayout, _ plan: Plan, threads: Int
    ) -> Activations.Tape {
        switch plan.checkpointing {
        case .on: return .blockInputs
        case .off: return .everything
        case .auto:
            guard let memory = plan.memory else { return .everything }
            let fitting = [.everything, .attention].first {
                arenaBytes(configuration, layout, plan, tape: $0, threads: threads) <= memory
            }
            return fitting ?? .blockInputs
        }
    }

    private static func arenaBytes(
        _ configuration: ModelConfiguration, _ layout: AdapterLayout, _ plan: Plan, tape: Activations.Tape, threads: Int
    ) -> Int {
        let rows = MatrixProduct.paddedRows(plan.rows)
        return Activations.size(
            configuration: configuration, compute: plan.compute, rows: rows, rankSum: TrainedAdapter.rankSum(layout),
            tape: tape)
            + TrainedAdapter.size(
                layout: layout, compute: plan.compute, threads: threads, dropout: plan.dropout,
                widestInput: max(configuration.feedForwardSize, configuration.querySize))
            + BlockForward.size(configuration: configuration, compute: plan.compute, threads: threads)
            + SegmentAttention.size(configuration: configuration, rows: rows)
            + BlockBackward.size(configuration: configuration, compute: plan.compute, rows: rows, threads: threads)
            + LossHead.size(configuration: configuration, compute: plan.compute, capacity: plan.rows, threads: threads)
    }
}
