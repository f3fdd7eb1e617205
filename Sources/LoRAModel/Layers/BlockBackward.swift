import CKernels

/// The backward pass through transformer blocks: gradients flow through the frozen base into A and B alone.
///
/// As forward, a block is two runs over chunks of rows with attention between them; what the tape lacks is computed
/// again on the way.
final class BlockBackward {
    private let forward: BlockForward
    private let adapter: TrainedAdapter
    private let attention: SegmentAttention
    /// Gradient of the residual stream, from the last block's output down to the lowest block with a pair.
    let dx: ActivationBuffer  // (T, C)
    private let dAttention: ActivationBuffer  // (T, H·D)
    private let dQueryKeyValue: ActivationBuffer  // (T, (H+2K)·D)
    private let workspaces: [Workspace]
    private let expansions: BlockExpansions

    private var activations: Activations { forward.activations }
    private var configuration: ModelConfiguration { forward.model.configuration }
    private var product: MatrixProduct { forward.product }

    /// What one thread needs for the rows of a chunk.
    private struct Workspace {
        let dNormalized: UnsafeMutablePointer<Float>  // (chunk, C)
        let dActivated: UnsafeMutablePointer<Float>  // (chunk, F)
    }

    init(arena: Arena, forward: BlockForward, adapter: TrainedAdapter, attention: SegmentAttention) {
        self.forward = forward
        self.adapter = adapter
        self.attention = attention
        let (rows, compute) = (forward.activations.rows, forward.product.compute)
        let configuration = forward.model.configuration
        dx = ActivationBuffer(arena: arena, compute: compute, rows: rows, width: configuration.hiddenSize)
        dAttention = ActivationBuffer(arena: arena, compute: compute, rows: rows, width: configuration.querySize)
        dQueryKeyValue = ActivationBuffer(
            arena: arena, compute: compute, rows: rows, width: forward.activations.queryKeyValue.width)
        workspaces = (0..<forward.pool.count).map { _ in
            Workspace(
                dNormalized: arena.allocate(ThreadPool.rowChunk * configuration.hiddenSize),
                dActivated: arena.allocate(ThreadPool.rowChunk * configuration.feedForwardSize))
        }
        expansions = BlockExpansions(arena: arena, configuration: configuration, compute: compute)
    }

    static func size(configuration: ModelConfiguration, compute: Compute, rows: Int, threads: Int) -> Int {
        let chunk = ThreadPool.rowChunk
        let perThread =
            Arena.size(of: Float.self, count: chunk * configuration.hiddenSize)
            + Arena.size(of: Float.self, count: chunk * configuration.feedForwardSize)
        return threads * perThread
            + ActivationBuffer.size(compute: compute, rows: rows, width: configuration.querySize)
            + ActivationBuffer.size(compute: compute, rows: rows, width: configuration.hiddenSize)
            + ActivationBuffer.size(
                compute: compute, rows: rows, width: configuration.querySize + 2 * configuration.keyValueSize)
            + BlockExpansions.size(configuration: configuration, compute: compute)
    }

    /// From the gradient of block `index`'s output to that of its input, both in `dx`; the block's A and B gradients ADD
    /// to `gradients`. `isLowest`: nobody needs the input's gradient.
    func run(_ index: Int, _ batch: PackedBatch, gradients: UnsafeMutablePointer<Float>, isLowest: Bool) {
        let repeats = activations.tape != .everything
        if repeats { forward.projectQueriesKeysValues(index, positions: batch.positions, seals: true) }
        if activations.tape == .blockInputs { attention.forward(index) }
        feedForwardAndOutput(index, rows: batch.tokens.count, repeats: repeats)
        attention.backward(index, dQueryKeyValue, dAttention)
        queriesKeysValues(index, batch.positions, isLowest: isLowest)
        adapter.joinGradients(index, into: gradients)
    }

    /// The run from the block's output to what attention gave.
    private func feedForwardAndOutput(_ index: Int, rows T: Int, repeats: Bool) {
        let block = forward.model.blocks[index]
        adapter.prepareBackward(index)
        let down = product.expand(block.down, .backward, into: expansions.down)
        let gateUp = product.expand(block.gateUp, .backward, into: expansions.gateUp)
        let output = product.expand(block.attentionOutput, .backward, into: expansions.attentionOutput)
        let again = repeats ? forward.outputAndGateUpWeights(index) : nil
        forward.pool.forEachRowChunk(T) { rows, thread in
            if adapter.readsValues(.outputProjection, index) {
                activations.attention.open(activations.attentionSlot(index), rows: rows)
            }
            if let again {
                forward.projectAttention(index, rows, again.output, thread: thread, rounds: true)
            } else {
                forward.recallMiddle(index, rows, thread: thread)
            }
            feedForward(index, rows, down, gateUp, again: again?.gateUp, thread: thread)
            attentionOutput(index, rows, output, thread: thread)
        }
    }

    /// output = middle + down(silu(gate(n)) * up(n)), n = norm(middle)
    private func feedForward(
        _ index: Int, _ rows: Range<Int>, _ down: ExpandedMatrix, _ gateUp: ExpandedMatrix,
        again: BlockForward.Weights?, thread: Int
    ) {
        let (F, first) = (configuration.feedForwardSize, rows.lowerBound)
        let dActivated = workspaces[thread].dActivated
        dx.seal(rows: rows)
        product.multiply(dActivated, dx.operand(row: first), rows: rows.count, down, thread: thread)
        let repeated = again.map { repeatGateUp(index, rows, $0, thread: thread) }
        if adapter.reaches(.downProjection, index) {
            for row in 0..<rows.count {
                let gateUp = self.gateUp(index, first, row: row, repeated: repeated, thread: thread)
                forward.activate(gateUp, index, row: row, thread: thread)
            }
            let activated = forward.workspaces[thread].activated.view()
            adapter.addGradients(
                .downProjection, index, dx: dActivated, dy: dx.view(row: first), activated, rows, thread: thread)
        }
        for row in 0..<rows.count {
            let gate = self.gateUp(index, first, row: row, repeated: repeated, thread: thread)
            lora_swiglu_backward(gate, gate + F, dActivated + row * F, gate, gate + F, F)
            forward.workspaces[thread].gateUp.seal(row: row, gate)
        }
        backThroughGateUp(index, rows, gateUp, thread: thread)
    }

    /// Gate and up (chunk, 2F) again, which the tape lacks, and what the down projection's branch kept of them.
    private func repeatGateUp(
        _ index: Int, _ rows: Range<Int>, _ weights: BlockForward.Weights, thread: Int
    ) -> UnsafeMutablePointer<Float> {
        let (F, scratch) = (configuration.feedForwardSize, forward.workspaces[thread].gateUp)
        let values = forward.projectGateUp(index, rows, weights, thread: thread)
        if adapter.reaches(.downProjection, index) {
            for row in 0..<rows.count {
                forward.activate(values + row * 2 * F, index, row: row, thread: thread)
            }
            let activated = forward.workspaces[thread].activated.view()
            adapter.project(.downProjection, index, activated, rows, thread: thread)
        }
        // Rounded, so that a short tape gives the gradients of a long one.
        for row in 0..<rows.count {
            scratch.seal(rows: row..<row + 1)
            scratch.open(rows: row..<row + 1)
        }
        return values
    }

    /// Gate and up (2F) of the chunk's row `row`, to be overwritten with their gradients: repeated, or as the tape has
    /// them. All rows take turns in one place where nobody reads the gradients in f32.
    private func gateUp(
        _ index: Int, _ first: Int, row: Int, repeated: UnsafeMutablePointer<Float>?, thread: Int
    ) -> UnsafeMutablePointer<Float> {
        if let repeated { return repeated + row * 2 * configuration.feedForwardSize }
        let keepsValues = adapter.readsValues(.gateProjection, index) || adapter.readsValues(.upProjection, index)
        let scratch = forward.workspaces[thread].gateUp.values(row: keepsValues ? row : 0)
        let (tape, slot) = (activations.gateUp, activations.slot(index))
        tape.recall(slot, rows: first + row..<first + row + 1, scratch: scratch)
        return tape.values(slot, row: first + row, scratch: scratch)
    }

    private func backThroughGateUp(
        _ index: Int, _ rows: Range<Int>, _ weights: ExpandedMatrix, thread: Int
    ) {
        let (block, C, F) = (forward.model.blocks[index], configuration.hiddenSize, configuration.feedForwardSize)
        let first = rows.lowerBound
        let (middle, scales) = (forward.workspaces[thread].middle, activations.feedForwardScales(index) + first)
        let dNormalized = workspaces[thread].dNormalized
        let scratch = forward.workspaces[thread].gateUp
        // In f32 the gradients may be on the tape.
        let values = activations.gateUp.values(activations.slot(index), row: first, scratch: scratch.values())
        let operand = product.compute == .f32 ? UnsafeRawPointer(values) : scratch.operand()
        product.multiply(dNormalized, operand, rows: rows.count, weights, thread: thread)
        if adapter.reaches(.gateProjection, index) || adapter.reaches(.upProjection, index) {
            let keepsValues = forward.feedForwardReadsValues(index)
            let x = forward.normalize(
                middle, block.feedForwardNorm, scales, rows, thread: thread, keepsValues: keepsValues
            ).view()
            let dy = ActivationRows(values: values, operand: operand, stride: 2 * F)
            adapter.addGradients(.gateProjection, index, dx: dNormalized, dy: dy, x, rows, thread: thread)
            adapter.addGradients(
                .upProjection, index, dx: dNormalized, dy: dy.columns(from: F, product.compute), x, rows,
                thread: thread)
        }
        lora_rmsnorm_backward(
            dx.values(row: first), dNormalized, middle, block.feedForwardNorm, scales, rows.count, C)
    }

    /// middle = input + output(attention)
    private func attentionOutput(_ index: Int, _ rows: Range<Int>, _ weights: ExpandedMatrix, thread: Int) {
        let first = rows.lowerBound
        let gradient = dAttention.values(row: first)
        dx.seal(rows: rows)
        product.multiply(gradient, dx.operand(row: first), rows: rows.count, weights, thread: thread)
        let attention = activations.attention.view(activations.attentionSlot(index), row: first)
        adapter.addGradients(
            .outputProjection, index, dx: gradient, dy: dx.view(row: first), attention, rows, thread: thread)
        dAttention.seal(rows: rows)
        dQueryKeyValue.values(row: first).update(repeating: 0, count: rows.count * dQueryKeyValue.width)
    }

    /// q, k, v = rotate(projections(n)), n = norm(input)
    private func queriesKeysValues(_ index: Int, _ positions: [Int32], isLowest: Bool) {
        let block = forward.model.blocks[index]
        let (C, Q, KV) = (configuration.hiddenSize, configuration.querySize, configuration.keyValueSize)
        let buffer = dQueryKeyValue
        let weights = isLowest ? nil : product.expand(block.queryKeyValue, .backward, into: expansions.queryKeyValue)
        forward.pool.forEachRowChunk(positions.count) { rows, thread in
            let first = rows.lowerBound
            let (input, scales) = (activations.residual(index) + first * C, activations.attentionScales(index) + first)
            let dNormalized = weights == nil ? nil : workspaces[thread].dNormalized
            rotateBack(buffer.values(row: first), positions, rows)
            forward.finishProjectionsBack(index, buffer.values(row: first), rows, thread: thread)
            buffer.seal(rows: rows)
            let dy = buffer.view(row: first)
            if let weights, let dNormalized {
                product.multiply(dNormalized, dy.operand, rows: rows.count, weights, thread: thread)
            }
            let keepsValues = forward.attentionReadsValues(index)
            let x = forward.normalize(
                input, block.attentionNorm, scales, rows, thread: thread, keepsValues: keepsValues
            ).view()
            adapter.addGradients(.queryProjection, index, dx: dNormalized, dy: dy, x, rows, thread: thread)
            let (dKeys, dValues) = (dy.columns(from: Q, product.compute), dy.columns(from: Q + KV, product.compute))
            adapter.addGradients(.keyProjection, index, dx: dNormalized, dy: dKeys, x, rows, thread: thread)
            adapter.addGradients(.valueProjection, index, dx: dNormalized, dy: dValues, x, rows, thread: thread)
            guard let dNormalized else { return }
            lora_rmsnorm_backward(
                dx.values(row: first), dNormalized, input, block.attentionNorm, scales, rows.count, C)
        }
    }

    private func rotateBack(_ dy: UnsafeMutablePointer<Float>, _ positions: [Int32], _ rows: Range<Int>) {
        let (H, K, D) = (configuration.headCount, configuration.keyValueHeadCount, configuration.headSize)
        positions.withUnsafeBufferPointer { positions in
            guard let positions = positions.baseAddress else { return }
            lora_rope_backward(
                dy, dQueryKeyValue.width, positions + rows.lowerBound, forward.rotary.cosines, forward.rotary.sines,
                rows.count, H + K, D, configuration.ropeUsesHalves ? 1 : 0)
        }
    }
}
