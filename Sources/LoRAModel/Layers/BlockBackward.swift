import CKernels

/// The backward pass through transformer blocks: gradients flow through the frozen base into A and B alone.
final class BlockBackward {
    private let forward: BlockForward
    private let adapter: TrainedAdapter
    private let attention: SegmentAttention
    /// Gradient of the residual stream, from the last block's output down to the lowest block with a pair.
    let dx: ActivationBuffer  // (T, C)
    private let dNormalized: UnsafeMutablePointer<Float>  // (T, C)
    private let dActivated: UnsafeMutablePointer<Float>  // (T, F)
    private let dAttention: UnsafeMutablePointer<Float>  // (T, H·D)
    private let dQueryKeyValue: ActivationBuffer  // (T, (H+2K)·D)

    private var activations: Activations { forward.activations }
    private var configuration: ModelConfiguration { forward.model.configuration }
    private var product: MatrixProduct { forward.product }

    init(arena: Arena, forward: BlockForward, adapter: TrainedAdapter, attention: SegmentAttention) {
        self.forward = forward
        self.adapter = adapter
        self.attention = attention
        let (rows, compute) = (forward.activations.rows, forward.product.compute)
        let configuration = forward.model.configuration
        dx = ActivationBuffer(arena: arena, compute: compute, rows: rows, width: configuration.hiddenSize)
        dNormalized = arena.allocate(rows * configuration.hiddenSize)
        dActivated = arena.allocate(rows * configuration.feedForwardSize)
        dAttention = arena.allocate(rows * configuration.querySize)
        dQueryKeyValue = ActivationBuffer(
            arena: arena, compute: compute, rows: rows, width: forward.activations.queryKeyValue.width)
    }

    static func size(configuration: ModelConfiguration, compute: Compute, rows: Int) -> Int {
        let widths = [configuration.hiddenSize, configuration.feedForwardSize, configuration.querySize]
        return widths.reduce(0) { $0 + Arena.size(of: Float.self, count: rows * $1) }
            + ActivationBuffer.size(compute: compute, rows: rows, width: configuration.hiddenSize)
            + ActivationBuffer.size(
                compute: compute, rows: rows, width: configuration.querySize + 2 * configuration.keyValueSize)
    }

    /// From the gradient of block `index`'s output to that of its input, both in `dx`; the block's A and B gradients ADD
    /// to `gradients`. `isLowest`: nobody needs the input's gradient.
    func run(_ index: Int, _ batch: PackedBatch, gradients: UnsafeMutablePointer<Float>, isLowest: Bool) {
        let T = batch.tokens.count
        feedForward(index, rows: T)
        attentionOutput(index, rows: T)
        attention.backward(index, dQueryKeyValue, dAttention, batch)
        queriesKeysValues(index, batch.positions, isLowest: isLowest)
        adapter.joinGradients(index, into: gradients)
    }

    /// output = middle + down(silu(gate(n)) * up(n)), n = norm(middle)
    private func feedForward(_ index: Int, rows T: Int) {
        let (block, slot) = (forward.model.blocks[index], activations.slot(index))
        let (C, F) = (configuration.hiddenSize, configuration.feedForwardSize)
        let (gateUp, activated, normalized) = (activations.gateUp, activations.activated, activations.normalized)
        let (middle, scales) = (activations.middle(index), activations.feedForwardScales(index))
        forEachRowBlock(T) { rows, _ in self.dx.seal(rows: rows) }
        product.backward(dActivated, dx.operand(), rows: T, block.down)
        forEachRowBlock(T) { rows, thread in
            gateUp.open(slot, rows: rows)
            let values = gateUp.values(slot)
            if self.adapter.reaches(.downProjection, index) {
                for row in rows {
                    let gate = values + row * 2 * F
                    lora_swiglu_forward(activated.values() + row * F, gate, gate + F, F)
                }
                self.adapter.addGradients(
                    .downProjection, index, dx: self.dActivated, dy: self.dx.values(), C, activated.values(), rows,
                    thread: thread)
            }
            for row in rows {
                let gate = values + row * 2 * F
                lora_swiglu_backward(gate, gate + F, self.dActivated + row * F, gate, gate + F, F)
            }
            gateUp.seal(slot, rows: rows)
        }
        product.backward(dNormalized, gateUp.operand(slot), rows: T, block.gateUp)
        let reaches = adapter.reaches(.gateProjection, index) || adapter.reaches(.upProjection, index)
        forEachRowBlock(T) { rows, thread in
            let dGate = UnsafePointer(gateUp.values(slot))
            if reaches {
                self.forward.normalizeRows(middle, block.feedForwardNorm, scales, rows)
                let x = UnsafePointer(normalized.values())
                self.adapter.addGradients(
                    .gateProjection, index, dx: self.dNormalized, dy: dGate, 2 * F, x, rows, thread: thread)
                self.adapter.addGradients(
                    .upProjection, index, dx: self.dNormalized, dy: dGate + F, 2 * F, x, rows, thread: thread)
            }
            self.addNormGradient(middle, block.feedForwardNorm, scales, rows)
            self.dx.seal(rows: rows)
        }
    }

    /// middle = input + output(attention)
    private func attentionOutput(_ index: Int, rows T: Int) {
        let (block, slot) = (forward.model.blocks[index], activations.slot(index))
        let C = configuration.hiddenSize
        product.backward(dAttention, dx.operand(), rows: T, block.attentionOutput)
        forEachRowBlock(T) { rows, thread in
            self.activations.attention.open(slot, rows: rows)
            self.activations.queryKeyValue.open(slot, rows: rows)
            self.adapter.addGradients(
                .outputProjection, index, dx: self.dAttention, dy: self.dx.values(), C,
                self.activations.attention.values(slot), rows, thread: thread)
            let width = self.dQueryKeyValue.width
            (self.dQueryKeyValue.values() + rows.lowerBound * width).update(repeating: 0, count: rows.count * width)
        }
    }

    /// q, k, v = rotate(projections(n)), n = norm(input)
    private func queriesKeysValues(_ index: Int, _ positions: [Int32], isLowest: Bool) {
        let (block, T) = (forward.model.blocks[index], positions.count)
        let (input, scales) = (activations.residual(index), activations.attentionScales(index))
        let (Q, KV, width) = (configuration.querySize, configuration.keyValueSize, dQueryKeyValue.width)
        forEachRowBlock(T) { rows, _ in
            self.rotateBack(positions, rows)
            self.dQueryKeyValue.seal(rows: rows)
        }
        if !isLowest { product.backward(dNormalized, dQueryKeyValue.operand(), rows: T, block.queryKeyValue) }
        let targets: [(TargetModule, Int)] = [(.queryProjection, 0), (.keyProjection, Q), (.valueProjection, Q + KV)]
        forEachRowBlock(T) { rows, thread in
            self.forward.normalizeRows(input, block.attentionNorm, scales, rows)
            for (target, column) in targets {
                self.adapter.addGradients(
                    target, index, dx: isLowest ? nil : self.dNormalized, dy: self.dQueryKeyValue.values() + column,
                    width, self.activations.normalized.values(), rows, thread: thread)
            }
            if !isLowest { self.addNormGradient(input, block.attentionNorm, scales, rows) }
        }
    }

    private func rotateBack(_ positions: [Int32], _ rows: Range<Int>) {
        let (H, K, D) = (configuration.headCount, configuration.keyValueHeadCount, configuration.headSize)
        let width = dQueryKeyValue.width
        positions.withUnsafeBufferPointer { positions in
            guard let positions = positions.baseAddress else { return }
            lora_rope_backward(
                dQueryKeyValue.values() + rows.lowerBound * width, width, positions + rows.lowerBound,
                forward.rotary.cosines, forward.rotary.sines, rows.count, H + K, D,
                configuration.ropeUsesHalves ? 1 : 0)
        }
    }

    /// dx ADDS the gradient that `dNormalized` sends through a norm of x.
    private func addNormGradient(
        _ x: UnsafePointer<Float>, _ weight: [Float], _ scales: UnsafePointer<Float>, _ rows: Range<Int>
    ) {
        let (C, first) = (configuration.hiddenSize, rows.lowerBound)
        lora_rmsnorm_backward(
            dx.values() + first * C, dNormalized + first * C, x + first * C, weight, scales + first, rows.count, C)
    }

    private func forEachRowBlock(_ T: Int, _ body: (_ rows: Range<Int>, _ thread: Int) -> Void) {
        product.pool.forEachRange(of: T) { range, thread in
            for lower in stride(from: range.lowerBound, to: range.upperBound, by: BlockForward.rowBlock) {
                body(lower..<min(lower + BlockForward.rowBlock, range.upperBound), thread)
            }
        }
    }
}
