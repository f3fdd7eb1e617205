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
        case stored(StackedMatrix)
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
    /// else in f32.
    func run(_ index: Int, positions: [Int32], attendsSealed: Bool, attend: () -> Void) {
        let (block, T) = (model.blocks[index], positions.count)
        projectQueriesKeysValues(index, positions: positions, seals: attendsSealed)
        attend()
        let output = weights(block.attentionOutput, expansions.attentionOutput, rows: T)
        let gateUp = weights(block.gateUp, expansions.gateUp, rows: T)
        let down = weights(block.down, expansions.down, rows: T)
        forEachChunk(T) { rows, thread in
            let slot = activations.attentionSlot(index)
            if attendsSealed {
                activations.attention.open(slot, rows: rows)
            } else {
                activations.attention.seal(slot, rows: rows)
            }
            projectAttention(index, rows, output, thread: thread, rounds: attendsSealed)
            let values = projectGateUp(index, rows, gateUp, thread: thread)
            activations.gateUp.keep(activations.slot(index), rows: rows, scratch: values)
            projectDown(index, rows, down, gateUp: values, thread: thread)
        }
    }

    // MARK: The runs of a block, of which a pass that kept little repeats the first and a part of the second

    /// `activations.queryKeyValue` from the block's input.
    func projectQueriesKeysValues(_ index: Int, positions: [Int32], seals: Bool) {
        let (block, slot) = (model.blocks[index], activations.slot(index))
        let buffer = activations.queryKeyValue
        let (Q, KV) = (configuration.querySize, configuration.keyValueSize)
        let weights = weights(block.queryKeyValue, expansions.queryKeyValue, rows: positions.count)
        lowRank.prepare(index)
        forEachChunk(positions.count) { rows, thread in
            let (first, y) = (rows.lowerBound, buffer.values(slot, row: rows.lowerBound))
            let input = activations.residual(index) + first * configuration.hiddenSize
            let normalized = normalize(
                input, block.attentionNorm, activations.attentionScales(index) + first, rows, thread: thread)
            multiply(y, stride: buffer.width, normalized, rows: rows.count, weights, thread: thread)
            let x = normalized.view()
            lowRank.add(.queryProjection, index, y, buffer.width, x, rows, thread: thread)
            lowRank.add(.keyProjection, index, y + Q, buffer.width, x, rows, thread: thread)
            lowRank.add(.valueProjection, index, y + Q + KV, buffer.width, x, rows, thread: thread)
            finishProjections(index, y, rows, thread: thread)
            rotate(y, positions, rows)
            if seals { buffer.seal(slot, rows: rows) }
        }
    }

    /// The attention and feed-forward projections that a pass repeats when its tape lacks them.
    func outputAndGateUpWeights(_ index: Int, rows T: Int) -> (output: Weights, gateUp: Weights) {
        let block = model.blocks[index]
        return (
            weights(block.attentionOutput, expansions.attentionOutput, rows: T),
            weights(block.gateUp, expansions.gateUp, rows: T)
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
        lowRank.add(
            .outputProjection, index, y, tape.width, attention.view(attentionSlot, row: first), rows, thread: thread)
        addBias(model.blocks[index].attentionOutputBias, y, stride: tape.width, rows: rows.count)
        if rounds {
            tape.keep(slot, rows: rows, scratch: y)
            scratch.seal(rows: 0..<rows.count)
            scratch.open(rows: 0..<rows.count)
        }
        addInput(index, rows, y, thread: thread)
    }

    /// The workspace's `middle` as the tape has it.
    func recallMiddle(_ index: Int, _ rows: Range<Int>, thread: Int) {
        let (slot, scratch) = (activations.slot(index), workspaces[thread].attentionOutput.values())
        activations.attentionOutput.recall(slot, rows: rows, scratch: scratch)
        let y = activations.attentionOutput.values(slot, row: rows.lowerBound, scratch: scratch)
        addInput(index, rows, y, thread: thread)
    }

    private func addInput(_ index: Int, _ rows: Range<Int>, _ y: UnsafePointer<Float>, thread: Int) {
        let (C, middle) = (configuration.hiddenSize, workspaces[thread].middle)
        middle.update(from: activations.residual(index) + rows.lowerBound * C, count: rows.count * C)
        lora_add(middle, y, rows.count * C)
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
            thread: thread)
        multiply(y, stride: 2 * F, normalized, rows: rows.count, weights, thread: thread)
        let x = normalized.view()
        lowRank.add(.gateProjection, index, y, 2 * F, x, rows, thread: thread)
        lowRank.add(.upProjection, index, y + F, 2 * F, x, rows, thread: thread)
        return y
    }

    /// The next block's input.
    private func projectDown(
        _ index: Int, _ rows: Range<Int>, _ weights: Weights, gateUp: UnsafePointer<Float>, thread: Int
    ) {
        let (C, at) = (configuration.hiddenSize, rows.lowerBound * configuration.hiddenSize)
        let output = activations.residual(index + 1) + at
        let activated = activate(gateUp, rows, thread: thread)
        activated.seal(rows: 0..<rows.count)
        output.update(from: workspaces[thread].middle, count: rows.count * C)
        multiply(output, stride: C, activated, rows: rows.count, weights, thread: thread, accumulate: true)
        lowRank.add(.downProjection, index, output, C, activated.view(), rows, thread: thread)
    }

    // MARK: Steps of a chunk

    /// silu(gate) * up in the workspace, in f32.
    func activate(_ gateUp: UnsafePointer<Float>, _ rows: Range<Int>, thread: Int) -> ActivationBuffer {
        let (F, activated) = (configuration.feedForwardSize, workspaces[thread].activated)
        for row in 0..<rows.count {
            let gate = gateUp + row * 2 * F
            lora_swiglu_forward(activated.values(row: row), gate, gate + F, F)
        }
        return activated
    }

    /// The norm of rows of x in the workspace, in both element types.
    func normalize(
        _ x: UnsafePointer<Float>, _ weight: [Float], _ scales: UnsafeMutablePointer<Float>, _ rows: Range<Int>,
        thread: Int
    ) -> ActivationBuffer {
        let normalized = workspaces[thread].normalized
        lora_rmsnorm_forward(
            normalized.values(), scales, x, weight, configuration.normEpsilon, rows.count, configuration.hiddenSize)
        normalized.seal(rows: 0..<rows.count)
        return normalized
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

    private func weights(_ W: StackedMatrix, _ buffer: ExpansionBuffer, rows T: Int) -> Weights {
        T <= product.directRows ? .stored(W) : .expanded(product.expand(W, .forward, into: buffer))
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
        case .stored(let W):
            product.forwardDirectly(y, stride: yStride, values, rows: M, W, accumulate: accumulate)
        }
    }

    private func forEachChunk(_ T: Int, _ body: (_ rows: Range<Int>, _ thread: Int) -> Void) {
        if T <= product.directRows { return body(0..<T, 0) }
        pool.forEachRowChunk(T, body)
    }
}

/// Which low-rank branches a pass adds to which rows.
protocol LowRankPlan {
    /// Readies the branches of `block`.
    func prepare(_ block: Int)

    /// y, rows `yStride` apart, ADDS the branch of `target` in `block` on x (rows, in). Both are at the first of the rows.
    func add(
        _ target: TargetModule, _ block: Int, _ y: UnsafeMutablePointer<Float>, _ yStride: Int, _ x: ActivationRows,
        _ rows: Range<Int>, thread: Int)
}
