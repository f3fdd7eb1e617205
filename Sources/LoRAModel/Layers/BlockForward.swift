import CKernels

/// The forward pass through transformer blocks, shared by training and inference: norm, projections with their low-rank
/// branches, rotary embedding, attention, SwiGLU. What differs is where keys live, so the caller attends.
///
/// A block is two runs over the rows with attention between them. In a run each thread takes a chunk of its rows through
/// every step while they are in its cache. A pass of few rows is a single chunk whose products share out the stored
/// blocks of the matrices instead.
struct BlockForward {
    let model: BaseModel
    let product: MatrixProduct
    let rotary: RotaryTable
    let activations: Activations
    let lowRank: any LowRankPlan
    /// Of each thread.
    let workspaces: [Workspace]
    let headNorms: HeadNorms
    private let expansions: BlockExpansions

    var pool: ThreadPool { product.pool }
    private var configuration: ModelConfiguration { model.configuration }

    /// A matrix of the block at hand.
    enum Weights {
        case expanded(ExpandedMatrix)
        /// `next`: what is multiplied next.
        case stored(StackedMatrix, next: StackedMatrix?)

        var areStored: Bool { if case .stored = self { true } else { false } }
    }

    init(
        arena: Arena, model: BaseModel, product: MatrixProduct, rotary: RotaryTable, activations: Activations,
        lowRank: any LowRankPlan
    ) {
        self.model = model
        self.product = product
        self.rotary = rotary
        self.activations = activations
        self.lowRank = lowRank
        let (configuration, compute) = (model.configuration, product.compute)
        workspaces = (0..<product.pool.count).map { _ in
            Workspace(arena: arena, configuration: configuration, compute: compute)
        }
        headNorms = HeadNorms(arena: arena, configuration: configuration, threads: product.pool.count)
        expansions = BlockExpansions(arena: arena, configuration: configuration, compute: compute)
    }

    static func size(configuration: ModelConfiguration, compute: Compute, threads: Int) -> Int {
        threads * Workspace.size(configuration: configuration, compute: compute)
            + HeadNorms.size(configuration: configuration, threads: threads)
            + BlockExpansions.size(configuration: configuration, compute: compute)
    }

    /// Writes the embeddings of `tokens` (T) into the first block's input.
    func embed(_ tokens: [Int32]) {
        let C = configuration.hiddenSize
        let x = activations.residual(0)
        pool.forEachRange(of: tokens.count) { range, _ in
            for row in range { model.embedding.expand(x + row * C, row: Int(tokens[row])) }
        }
    }

    /// From the input of block `index` to that of the next, for T rows at `positions`. `attend` reads the rotated
    /// queries, keys and values and writes `activations.attention`: sealed where `attendsSealed`, as a tape holds them,
    /// or where `activations.attendsInHalves`, else in f32.
    func run(_ index: Int, positions: [Int32], attendsSealed: Bool, attend: () -> Void) {
        let (block, T) = (model.blocks[index], positions.count)
        projectQueriesKeysValues(index, positions: positions, seals: attendsSealed)
        activations.attendsInHalves = product.multipliesHalves
        attend()
        let output = weights(block.attentionOutput, expansions.attentionOutput, next: block.gateUp)
        let gateUp = weights(block.gateUp, expansions.gateUp, next: block.down)
        let following = index + 1 < model.blocks.count ? model.blocks[index + 1].queryKeyValue : model.output
        let down = weights(block.down, expansions.down, next: following)
        forEachChunk(T) { rows, thread in
            let slot = activations.attentionSlot(index)
            if attendsSealed || activations.attendsInHalves {
                if output.areStored || lowRank.readsValues(.outputProjection, index) {
                    activations.attention.open(slot, rows: rows)
                }
            } else if !product.readsStored {
                activations.attention.seal(slot, rows: rows)
            }
            projectAttention(index, rows, output, thread: thread, rounds: attendsSealed)
            let values = projectGateUp(index, rows, gateUp, thread: thread)
            projectDown(index, rows, down, gateUp: values, thread: thread)
        }
    }

    // MARK: The runs of a block, of which a pass that kept little repeats the first and a part of the second

    /// `activations.queryKeyValue` from the block's input.
    func projectQueriesKeysValues(_ index: Int, positions: [Int32], seals: Bool) {
        let (block, slot) = (model.blocks[index], activations.slot(index))
        let buffer = activations.queryKeyValue
        let weights = weights(block.queryKeyValue, expansions.queryKeyValue, next: block.attentionOutput)
        lowRank.prepare(index)
        forEachChunk(positions.count) { rows, thread in
            let (first, y) = (rows.lowerBound, buffer.values(slot, row: rows.lowerBound))
            let input = activations.residual(index) + first * configuration.hiddenSize
            let normalized = normalize(
                input, block.attentionNorm, activations.attentionScales(index) + first, rows, thread: thread,
                keepsValues: weights.areStored || attentionReadsValues(index))
            multiply(y, stride: buffer.width, normalized, rows: rows.count, weights, thread: thread)
            addBranches(
                Self.queryKeyValueTargets, index, y, buffer.width, normalized.view(), rows, thread: thread)
            finishProjections(index, y, rows, thread: thread)
            rotate(y, positions, rows)
            if seals { buffer.seal(slot, rows: rows) }
        }
    }

    /// The attention and feed-forward projections that a pass repeats when its tape lacks them.
    func outputAndGateUpWeights(_ index: Int) -> (output: Weights, gateUp: Weights) {
        let block = model.blocks[index]
        return (
            weights(block.attentionOutput, expansions.attentionOutput),
            weights(block.gateUp, expansions.gateUp)
        )
    }

    /// The workspace's `middle` from the block's input and what attention gave, in both element types; `rounds` as a
    /// tape does.
    func projectAttention(_ index: Int, _ rows: Range<Int>, _ weights: Weights, thread: Int, rounds: Bool) {
        let (attentionSlot, first) = (activations.attentionSlot(index), rows.lowerBound)
        let (attention, workspace) = (activations.attention, workspaces[thread])
        let (tape, slot, scratch) = (activations.attentionOutput, activations.slot(index), workspace.attentionOutput)
        let y = tape.values(slot, row: first, scratch: scratch.values())
        multiply(
            y, stride: tape.width, attention.values(attentionSlot, row: first),
            attention.operand(attentionSlot, row: first), rows: rows.count, weights, thread: thread, accumulate: false)
        addBranches(
            Self.outputTargets, index, y, tape.width, attention.view(attentionSlot, row: first), rows, thread: thread)
        addBias(model.blocks[index].attentionOutputBias, y, stride: tape.width, rows: rows.count)
        forEachRow(rows.count) { row in
            if rounds {
                tape.keep(slot, row: first + row, y + row * tape.width)
                scratch.seal(rows: row..<row + 1)
                scratch.open(rows: row..<row + 1)
            }
            addInput(index, first, row: row, y + row * tape.width, thread: thread)
        }
    }

    /// The workspace's `middle` as the tape has it.
    func recallMiddle(_ index: Int, _ rows: Range<Int>, thread: Int) {
        let (slot, scratch) = (activations.slot(index), workspaces[thread].attentionOutput.values())
        for row in 0..<rows.count {
            let at = rows.lowerBound + row
            activations.attentionOutput.recall(slot, rows: at..<at + 1, scratch: scratch)
            let y = activations.attentionOutput.values(slot, row: at, scratch: scratch)
            addInput(index, rows.lowerBound, row: row, y, thread: thread)
        }
    }

    /// One row of the workspace's `middle`: y (C) added to the block's input.
    private func addInput(_ index: Int, _ first: Int, row: Int, _ y: UnsafePointer<Float>, thread: Int) {
        let (C, middle) = (configuration.hiddenSize, workspaces[thread].middle + row * configuration.hiddenSize)
        middle.update(from: activations.residual(index) + (first + row) * C, count: C)
        lora_add(middle, y, C)
    }

    /// Gate and up (chunk, 2F) from the workspace's `middle`; the norm's output stays in the workspace.
    func projectGateUp(
        _ index: Int, _ rows: Range<Int>, _ weights: Weights, thread: Int
    ) -> UnsafeMutablePointer<Float> {
        let (block, F, first) = (model.blocks[index], configuration.feedForwardSize, rows.lowerBound)
        let y = activations.gateUp.values(
            activations.slot(index), row: first, scratch: workspaces[thread].gateUp.values())
        let normalized = normalize(
            workspaces[thread].middle, block.feedForwardNorm, activations.feedForwardScales(index) + first, rows,
            thread: thread, keepsValues: weights.areStored || feedForwardReadsValues(index))
        multiply(y, stride: 2 * F, normalized, rows: rows.count, weights, thread: thread)
        addBranches(Self.gateUpTargets, index, y, 2 * F, normalized.view(), rows, thread: thread)
        return y
    }

    /// The next block's input; gate and up go onto the tape on the way.
    private func projectDown(
        _ index: Int, _ rows: Range<Int>, _ weights: Weights, gateUp: UnsafePointer<Float>, thread: Int
    ) {
        let (C, F, first) = (configuration.hiddenSize, configuration.feedForwardSize, rows.lowerBound)
        let (output, activated) = (activations.residual(index + 1) + first * C, workspaces[thread].activated)
        let slot = activations.slot(index)
        forEachRow(rows.count) { row in
            let values = gateUp + row * 2 * F
            activations.gateUp.keep(slot, row: first + row, values)
            activate(values, index, row: row, thread: thread, readsValues: weights.areStored)
        }
        output.update(from: workspaces[thread].middle, count: rows.count * C)
        multiply(output, stride: C, activated, rows: rows.count, weights, thread: thread, accumulate: true)
        addBranches(
            Self.downTargets, index, output, C, onto: workspaces[thread].middle, activated.view(), rows, thread: thread)
    }

    // MARK: Steps of a chunk

    /// One row of silu(gate) * up in the workspace, row by row because a row fits the first cache: in products' elements,
    /// and in f32 too where the branch or the product reads that.
    func activate(
        _ gateUp: UnsafePointer<Float>, _ index: Int, row: Int, thread: Int, readsValues: Bool = false
    ) {
        let (F, activated) = (configuration.feedForwardSize, workspaces[thread].activated)
        let keepsValues = readsValues || product.compute == .f32 || lowRank.readsValues(.downProjection, index)
        let values = activated.values(row: keepsValues ? row : 0)
        lora_swiglu_forward(values, gateUp, gateUp + F, F)
        if !product.readsStored { activated.seal(row: row, values) }
    }

    /// The norm of rows of x in the workspace: in products' elements, and in f32 where `keepsValues`.
    func normalize(
        _ x: UnsafePointer<Float>, _ weight: [Float], _ scales: UnsafeMutablePointer<Float>, _ rows: Range<Int>,
        thread: Int, keepsValues: Bool
    ) -> ActivationBuffer {
        let (C, normalized) = (configuration.hiddenSize, workspaces[thread].normalized)
        forEachRow(rows.count) { row in
            let values = normalized.values(row: keepsValues || product.compute == .f32 ? row : 0)
            lora_rmsnorm_forward(values, scales + row, x + row * C, weight, configuration.normEpsilon, 1, C)
            if !product.readsStored { normalized.seal(row: row, values) }
        }
        return normalized
    }

    /// Whether a branch on the attention norm's output reads f32.
    func attentionReadsValues(_ index: Int) -> Bool {
        lowRank.readsValues(.queryProjection, index) || lowRank.readsValues(.keyProjection, index)
            || lowRank.readsValues(.valueProjection, index)
    }

    /// Whether a branch on the feed-forward norm's output reads f32.
    func feedForwardReadsValues(_ index: Int) -> Bool {
        lowRank.readsValues(.gateProjection, index) || lowRank.readsValues(.upProjection, index)
    }

    private func rotate(_ y: UnsafeMutablePointer<Float>, _ positions: [Int32], _ rows: Range<Int>) {
        let (H, K, D) = (configuration.headCount, configuration.keyValueHeadCount, configuration.headSize)
        positions.withUnsafeBufferPointer { positions in
            guard let positions = positions.baseAddress else { return }
            // Keys follow queries, so that one call rotates the heads of both.
            lora_rope_forward(
                y, activations.queryKeyValue.width, positions + rows.lowerBound, rotary.cosines, rotary.sines,
                rows.count, H + K, D, configuration.ropeUsesHalves ? 1 : 0)
        }
    }

    private func weights(_ W: StackedMatrix, _ buffer: ExpansionBuffer, next: StackedMatrix? = nil) -> Weights {
        product.readsStored ? .stored(W, next: next) : .expanded(product.expand(W, .forward, into: buffer))
    }

    private func multiply(
        _ y: UnsafeMutablePointer<Float>, stride: Int, _ x: ActivationBuffer, rows M: Int, _ weights: Weights,
        thread: Int, accumulate: Bool = false
    ) {
        multiply(
            y, stride: stride, x.values(), x.operand(), rows: M, weights, thread: thread,
            accumulate: accumulate)
    }

    private func multiply(
        _ y: UnsafeMutablePointer<Float>, stride yStride: Int, _ values: UnsafePointer<Float>,
        _ operand: UnsafeRawPointer, rows M: Int, _ weights: Weights, thread: Int, accumulate: Bool
    ) {
        switch weights {
        case .expanded(let w):
            product.multiply(y, operand, rows: M, w, thread: thread, accumulate: accumulate)
        case .stored(let W, let next):
            product.forwardDirectly(y, stride: yStride, values, rows: M, W, next: next, accumulate: accumulate)
        }
    }

    /// The branches of projections that read the same x and whose outputs stand side by side in y. All threads share
    /// those of a pass over stored blocks, where one thread has all rows.
    private func addBranches(
        _ targets: [TargetModule], _ index: Int, _ y: UnsafeMutablePointer<Float>, _ yStride: Int,
        onto: UnsafePointer<Float>? = nil, _ x: ActivationRows, _ rows: Range<Int>, thread: Int
    ) {
        if product.readsStored {
            lowRank.addTogether(
                targets, index, y, yStride, onto: onto, x, rows, configuration: configuration, pool: pool)
        } else {
            var column = 0
            for target in targets {
                lowRank.add(target, index, y + column, yStride, onto: onto, x, rows, thread: thread)
                column += target.shape(in: configuration).outputs
            }
        }
    }

    // Kept, so that a step takes no memory for them.
    private static let queryKeyValueTargets: [TargetModule] = [.queryProjection, .keyProjection, .valueProjection]
    private static let outputTargets: [TargetModule] = [.outputProjection]
    private static let gateUpTargets: [TargetModule] = [.gateProjection, .upProjection]
    private static let downTargets: [TargetModule] = [.downProjection]

    private func forEachChunk(_ T: Int, _ body: (_ rows: Range<Int>, _ thread: Int) -> Void) {
        if product.readsStored { return body(0..<T, 0) }
        pool.forEachRowChunk(T, body)
    }

    /// Each row of a chunk. All threads share them in a pass over stored blocks, where one thread has all rows.
    private func forEachRow(_ count: Int, _ body: (_ row: Int) -> Void) {
        if product.readsStored && count >= MatrixProduct.sharedRows {
            pool.forEachRange(of: count) { range, _ in
                for row in range { body(row) }
            }
        } else {
            for row in 0..<count { body(row) }
        }
    }
}

/// Which low-rank branches a pass adds to which rows.
protocol LowRankPlan {
    /// Readies the branches of `block`.
    func prepare(_ block: Int)

    /// Whether the branch of `target` in `block` reads rows in f32 rather than in products' elements.
    func readsValues(_ target: TargetModule, _ block: Int) -> Bool

    /// y, rows `yStride` apart, goes from the base's product of x (rows, in) to that of the adapted `target` in `block`:
    /// mostly it ADDS the branch. All pointers are at the first of the rows.
    /// - Parameter onto: what y (rows, out) held before the product was added to it; nil for zeros.
    func add(
        _ target: TargetModule, _ block: Int, _ y: UnsafeMutablePointer<Float>, _ yStride: Int,
        onto: UnsafePointer<Float>?, _ x: ActivationRows, _ rows: Range<Int>, thread: Int)

    /// The same for projections that read the same x and whose outputs stand side by side in y, by all threads.
    func addTogether(
        _ targets: [TargetModule], _ block: Int, _ y: UnsafeMutablePointer<Float>, _ yStride: Int,
        onto: UnsafePointer<Float>?, _ x: ActivationRows, _ rows: Range<Int>,
        configuration: ModelConfiguration, pool: ThreadPool)
}

extension LowRankPlan {
    func addTogether(
        _ targets: [TargetModule], _ block: Int, _ y: UnsafeMutablePointer<Float>, _ yStride: Int,
        onto: UnsafePointer<Float>?, _ x: ActivationRows, _ rows: Range<Int>,
        configuration: ModelConfiguration, pool: ThreadPool
    ) {
        preconditionFailure("a plan for training shares rows, not branches")
    }
}
