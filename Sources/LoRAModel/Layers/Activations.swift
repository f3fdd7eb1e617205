/// The buffers of a pass over at most `rows` rows. A pass that will go backward keeps a slot per block (the tape) of what
/// its `Tape` says; of the rest all blocks share slot 0.
final class Activations {
    let rows: Int
    let tape: Tape

    let residual: UnsafeMutablePointer<Float>  // (slots, T, C): input of each block, and the last one's output
    let attentionScales: UnsafeMutablePointer<Float>  // (slots, T): 1 / rms
    let feedForwardScales: UnsafeMutablePointer<Float>  // (slots, T)
    let logsumexp: UnsafeMutablePointer<Float>  // (slots, H, T)
    let queryKeyValue: ActivationBuffer  // (slots, T, (H+2K)·D), rotated
    /// Queries and keys before the norms of their heads (slots, T, (H+K)·D), where there are any.
    let unnormalized: TapeBuffer
    let attention: ActivationBuffer  // (slots, T, H·D)
    /// What attention adds to the residual stream (slots, T, C).
    let attentionOutput: TapeBuffer
    let gateUp: TapeBuffer  // (slots, T, 2F)
    /// A x of every pair (slots, sum of a block's ranks, T).
    let lowRank: UnsafeMutablePointer<Float>

    /// Whether attention to cached keys takes and gives products' elements, as that of training does.
    var attendsInHalves = false

    private let configuration: ModelConfiguration
    /// Sum of ranks that a block may hold.
    private let rankSum: Int

    /// What a pass keeps of each block for a later one; the rest is computed again on the way back.
    enum Tape: CaseIterable {
        /// Everything.
        case everything
        /// The input and what attention gave: products are cheap to repeat, attention is not.
        case attention
        /// The input.
        case blockInputs
        /// Nothing: there is no way back.
        case none
    }

    init(arena: Arena, configuration: ModelConfiguration, compute: Compute, rows: Int, rankSum: Int, tape: Tape) {
        self.rows = rows
        self.tape = tape
        self.configuration = configuration
        self.rankSum = rankSum
        let slots = Slots(configuration: configuration, tape: tape)
        let C = configuration.hiddenSize
        residual = arena.allocate(slots.residual * rows * C)
        attentionScales = arena.allocate(slots.rest * rows)
        feedForwardScales = arena.allocate(slots.rest * rows)
        logsumexp = arena.allocate(slots.attention * configuration.headCount * rows)
        lowRank = arena.allocate(slots.rest * rankSum * rows)
        queryKeyValue = ActivationBuffer(
            arena: arena, compute: compute, rows: rows, width: configuration.querySize + 2 * configuration.keyValueSize,
            slots: slots.rest)
        unnormalized = TapeBuffer(
            arena: arena, compute: compute, rows: rows, width: configuration.querySize + configuration.keyValueSize,
            slots: slots.unnormalized)
        attention = ActivationBuffer(
            arena: arena, compute: compute, rows: rows, width: configuration.querySize, slots: slots.attention)
        attentionOutput = TapeBuffer(
            arena: arena, compute: compute, rows: rows, width: C,
            slots: tape == .everything ? configuration.blockCount : 0)
        gateUp = TapeBuffer(
            arena: arena, compute: compute, rows: rows, width: 2 * configuration.feedForwardSize,
            slots: tape == .everything ? configuration.blockCount : 0)
    }

    /// Bytes of the arena that `init` takes.
    static func size(
        configuration: ModelConfiguration, compute: Compute, rows: Int, rankSum: Int, tape: Tape
    ) -> Int {
        let slots = Slots(configuration: configuration, tape: tape)
        let C = configuration.hiddenSize
        let floats = [
            slots.residual * rows * C, slots.rest * rows, slots.rest * rows,
            slots.attention * configuration.headCount * rows, slots.rest * rankSum * rows,
        ]
        return floats.reduce(0) { $0 + Arena.size(of: Float.self, count: $1) }
            + ActivationBuffer.size(
                compute: compute, rows: rows, width: configuration.querySize + 2 * configuration.keyValueSize,
                slots: slots.rest)
            + TapeBuffer.size(
                compute: compute, rows: rows, width: configuration.querySize + configuration.keyValueSize,
                slots: slots.unnormalized)
            + ActivationBuffer.size(
                compute: compute, rows: rows, width: configuration.querySize, slots: slots.attention)
            + TapeBuffer.size(
                compute: compute, rows: rows, width: C, slots: tape == .everything ? configuration.blockCount : 0)
            + TapeBuffer.size(
                compute: compute, rows: rows, width: 2 * configuration.feedForwardSize,
                slots: tape == .everything ? configuration.blockCount : 0)
    }

    /// The slot of `block` in everything but residuals and attention.
    func slot(_ block: Int) -> Int { tape == .everything ? block : 0 }
    func attentionSlot(_ block: Int) -> Int { tape == .everything || tape == .attention ? block : 0 }

    /// (T, C): input of `block`; of the block after the last: the output.
    func residual(_ block: Int) -> UnsafeMutablePointer<Float> {
        residual + (tape == .none ? 0 : block) * rows * configuration.hiddenSize
    }

    func attentionScales(_ block: Int) -> UnsafeMutablePointer<Float> { attentionScales + slot(block) * rows }
    func feedForwardScales(_ block: Int) -> UnsafeMutablePointer<Float> { feedForwardScales + slot(block) * rows }

    /// (T) of one query head.
    func logsumexp(_ block: Int, head: Int) -> UnsafeMutablePointer<Float> {
        logsumexp + (attentionSlot(block) * configuration.headCount + head) * rows
    }

    /// (T, r) of the pair whose ranks before it in the block sum to `rankOffset`.
    func lowRank(_ block: Int, rankOffset: Int) -> UnsafeMutablePointer<Float> {
        lowRank + (slot(block) * rankSum + rankOffset) * rows
    }

    private struct Slots {
        let residual: Int
        let attention: Int
        let rest: Int
        let unnormalized: Int

        init(configuration: ModelConfiguration, tape: Tape) {
            let blocks = configuration.blockCount
            residual = tape == .none ? 1 : blocks + 1
            attention = tape == .everything || tape == .attention ? blocks : 1
            rest = tape == .everything ? blocks : 1
            unnormalized = configuration.normalizesHeads && tape != .none ? rest : 0
        }
    }
}
