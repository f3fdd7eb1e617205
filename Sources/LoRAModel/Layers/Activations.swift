/// The buffers of a pass over at most `rows` rows. A pass that will go backward keeps a slot per block (the tape);
/// otherwise, and for what is recomputed, all blocks share slot 0.
final class Activations {
    let rows: Int
    /// Blocks that keep their residual stream, and blocks that keep everything.
    private let residualSlots: Int
    private let blockSlots: Int

    let residual: UnsafeMutablePointer<Float>  // (slots, T, C): input of each block, and the last one's output
    let middle: UnsafeMutablePointer<Float>  // (slots, T, C): after attention
    let attentionScales: UnsafeMutablePointer<Float>  // (slots, T): 1 / rms
    let feedForwardScales: UnsafeMutablePointer<Float>  // (slots, T)
    let logsumexp: UnsafeMutablePointer<Float>  // (slots, H, T)
    let queryKeyValue: ActivationBuffer  // (slots, T, (H+2K)·D), rotated
    let attention: ActivationBuffer  // (slots, T, H·D)
    let gateUp: ActivationBuffer  // (slots, T, 2F)
    let normalized: ActivationBuffer  // (T, C)
    let activated: ActivationBuffer  // (T, F)
    /// A x of every pair (slots, sum of a block's ranks, T).
    let lowRank: UnsafeMutablePointer<Float>

    private let configuration: ModelConfiguration
    /// Sum of ranks that a block may hold.
    private let rankSum: Int

    /// What a pass keeps for a later one.
    enum Tape {
        /// Nothing.
        case none
        /// The input of each block; the rest is computed again on the way back.
        case blockInputs
        case everything
    }

    init(arena: Arena, configuration: ModelConfiguration, compute: Compute, rows: Int, rankSum: Int, tape: Tape) {
        let shape = Shape(configuration: configuration, rows: rows, rankSum: rankSum, tape: tape)
        self.rows = rows
        self.configuration = configuration
        self.rankSum = rankSum
        (residualSlots, blockSlots) = (shape.residualSlots, shape.blockSlots)
        let (C, slots) = (configuration.hiddenSize, blockSlots)
        residual = arena.allocate(residualSlots * rows * C)
        middle = arena.allocate(slots * rows * C)
        attentionScales = arena.allocate(slots * rows)
        feedForwardScales = arena.allocate(slots * rows)
        logsumexp = arena.allocate(slots * configuration.headCount * rows)
        lowRank = arena.allocate(slots * rankSum * rows)
        let buffer = { (width: Int, slots: Int) in
            ActivationBuffer(arena: arena, compute: compute, rows: rows, width: width, slots: slots)
        }
        queryKeyValue = buffer(configuration.querySize + 2 * configuration.keyValueSize, slots)
        attention = buffer(configuration.querySize, slots)
        gateUp = buffer(2 * configuration.feedForwardSize, slots)
        normalized = buffer(C, 1)
        activated = buffer(configuration.feedForwardSize, 1)
    }

    /// Bytes of the arena that `init` takes.
    static func size(
        configuration: ModelConfiguration, compute: Compute, rows: Int, rankSum: Int, tape: Tape
    ) -> Int {
        let shape = Shape(configuration: configuration, rows: rows, rankSum: rankSum, tape: tape)
        let (C, slots) = (configuration.hiddenSize, shape.blockSlots)
        let floats = [
            shape.residualSlots * rows * C, slots * rows * C, slots * rows, slots * rows,
            slots * configuration.headCount * rows, slots * rankSum * rows,
        ]
        let buffers = [
            (configuration.querySize + 2 * configuration.keyValueSize, slots), (configuration.querySize, slots),
            (2 * configuration.feedForwardSize, slots), (C, 1), (configuration.feedForwardSize, 1),
        ]
        return floats.reduce(0) { $0 + Arena.size(of: Float.self, count: $1) }
            + buffers.reduce(0) {
                $0 + ActivationBuffer.size(compute: compute, rows: rows, width: $1.0, slots: $1.1)
            }
    }

    func slot(_ block: Int) -> Int { blockSlots == 1 ? 0 : block }

    /// (T, C): input of `block`; of the block after the last: the output.
    func residual(_ block: Int) -> UnsafeMutablePointer<Float> {
        residual + (residualSlots == 1 ? 0 : block) * rows * configuration.hiddenSize
    }

    func middle(_ block: Int) -> UnsafeMutablePointer<Float> {
        middle + slot(block) * rows * configuration.hiddenSize
    }

    func attentionScales(_ block: Int) -> UnsafeMutablePointer<Float> { attentionScales + slot(block) * rows }
    func feedForwardScales(_ block: Int) -> UnsafeMutablePointer<Float> { feedForwardScales + slot(block) * rows }

    /// (T) of one query head.
    func logsumexp(_ block: Int, head: Int) -> UnsafeMutablePointer<Float> {
        logsumexp + (slot(block) * configuration.headCount + head) * rows
    }

    /// (T, r) of the pair whose ranks before it in the block sum to `rankOffset`.
    func lowRank(_ block: Int, rankOffset: Int) -> UnsafeMutablePointer<Float> {
        lowRank + (slot(block) * rankSum + rankOffset) * rows
    }

    private struct Shape {
        let residualSlots: Int
        let blockSlots: Int

        init(configuration: ModelConfiguration, rows: Int, rankSum: Int, tape: Tape) {
            residualSlots = tape == .none ? 1 : configuration.blockCount + 1
            blockSlots = tape == .everything ? configuration.blockCount : 1
        }
    }
}
