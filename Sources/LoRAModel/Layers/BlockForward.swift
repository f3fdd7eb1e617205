import CKernels

/// The forward pass through transformer blocks, shared by training and inference: norm, projections with their low-rank
/// branches, rotary embedding, attention, SwiGLU. What differs is where keys live, so the caller attends.
struct BlockForward {
    let model: BaseModel
    let product: MatrixProduct
    let rotary: RotaryTable
    let activations: Activations
    let lowRank: any LowRankPlan

    private var pool: ThreadPool { product.pool }
    private var configuration: ModelConfiguration { model.configuration }

    /// Rows that a thread takes through several kernels while they are in its cache.
    static let rowBlock = 32

    /// Writes the embeddings of `tokens` (T) into the first block's input.
    func embed(_ tokens: [Int32]) {
        let C = configuration.hiddenSize
        let x = activations.residual(0)
        pool.forEachRange(of: tokens.count) { range, _ in
            for row in range {
                let token = Int(tokens[row])
                model.embedding.expand(x + row * C, rows: token..<token + 1, columns: 0..<C)
            }
        }
    }

    /// From the input of block `index` to that of the next, for T rows at `positions`. `attend` reads the rotated
    /// queries, keys and values and writes `activations.attention`; `keepsRounded` makes it read what a tape will hold.
    func run(_ index: Int, positions: [Int32], keepsRounded: Bool, attend: () -> Void) {
        let T = positions.count
        projectQueriesKeysValues(index, positions: positions, keepsRounded: keepsRounded)
        attend()
        projectAttention(index, rows: T)
        feedForward(index, rows: T)
    }

    private func projectQueriesKeysValues(_ index: Int, positions: [Int32], keepsRounded: Bool) {
        let (block, T, slot) = (model.blocks[index], positions.count, activations.slot(index))
        let buffer = activations.queryKeyValue
        normalize(activations.residual(index), block.attentionNorm, activations.attentionScales(index), rows: T)
        product.forward(buffer.values(slot), activations.normalized, rows: T, block.queryKeyValue)
        let (Q, KV) = (configuration.querySize, configuration.keyValueSize)
        forEachRowBlock(T) { rows in
            let x = UnsafePointer(activations.normalized.values())
            let y = buffer.values(slot)
            lowRank.add(.queryProjection, index, y, buffer.width, x, rows)
            lowRank.add(.keyProjection, index, y + Q, buffer.width, x, rows)
            lowRank.add(.valueProjection, index, y + Q + KV, buffer.width, x, rows)
            rotate(y, buffer.width, positions, rows)
            if keepsRounded {
                buffer.seal(slot, rows: rows)
                buffer.open(slot, rows: rows)
            }
        }
    }

    private func projectAttention(_ index: Int, rows T: Int) {
        let (block, C, slot) = (model.blocks[index], configuration.hiddenSize, activations.slot(index))
        let (input, middle) = (activations.residual(index), activations.middle(index))
        forEachRowBlock(T) { rows in
            activations.attention.seal(slot, rows: rows)
            (middle + rows.lowerBound * C).update(from: input + rows.lowerBound * C, count: rows.count * C)
        }
        product.forward(middle, activations.attention, slot, rows: T, block.attentionOutput, accumulate: true)
        forEachRowBlock(T) { rows in
            lowRank.add(.outputProjection, index, middle, C, UnsafePointer(activations.attention.values(slot)), rows)
            normalizeRows(middle, block.feedForwardNorm, activations.feedForwardScales(index), rows)
        }
    }

    private func feedForward(_ index: Int, rows T: Int) {
        let (block, slot) = (model.blocks[index], activations.slot(index))
        let (C, F) = (configuration.hiddenSize, configuration.feedForwardSize)
        let (buffer, activated) = (activations.gateUp, activations.activated)
        let (middle, output) = (activations.middle(index), activations.residual(index + 1))
        product.forward(buffer.values(slot), activations.normalized, rows: T, block.gateUp)
        forEachRowBlock(T) { rows in
            let x = UnsafePointer(activations.normalized.values())
            let y = buffer.values(slot)
            lowRank.add(.gateProjection, index, y, 2 * F, x, rows)
            lowRank.add(.upProjection, index, y + F, 2 * F, x, rows)
            for row in rows {
                lora_swiglu_forward(activated.values() + row * F, y + row * 2 * F, y + row * 2 * F + F, F)
            }
            buffer.seal(slot, rows: rows)
            activated.seal(rows: rows)
            (output + rows.lowerBound * C).update(from: middle + rows.lowerBound * C, count: rows.count * C)
        }
        product.forward(output, activated, rows: T, block.down, accumulate: true)
        guard lowRank.reaches(.downProjection, index) else { return }
        forEachRowBlock(T) { rows in
            lowRank.add(.downProjection, index, output, C, UnsafePointer(activated.values()), rows)
        }
    }

    private func normalize(
        _ x: UnsafePointer<Float>, _ weight: [Float], _ scales: UnsafeMutablePointer<Float>, rows T: Int
    ) {
        forEachRowBlock(T) { rows in normalizeRows(x, weight, scales, rows) }
    }

    /// `activations.normalized` of the rows, in both element types.
    func normalizeRows(
        _ x: UnsafePointer<Float>, _ weight: [Float], _ scales: UnsafeMutablePointer<Float>, _ rows: Range<Int>
    ) {
        let (C, first) = (configuration.hiddenSize, rows.lowerBound)
        lora_rmsnorm_forward(
            activations.normalized.values() + first * C, scales + first, x + first * C, weight,
            configuration.normEpsilon, rows.count, C)
        activations.normalized.seal(rows: rows)
    }

    private func rotate(_ y: UnsafeMutablePointer<Float>, _ stride: Int, _ positions: [Int32], _ rows: Range<Int>) {
        let (H, K, D) = (configuration.headCount, configuration.keyValueHeadCount, configuration.headSize)
        positions.withUnsafeBufferPointer { positions in
            guard let positions = positions.baseAddress else { return }
            // Keys follow queries, so that one call rotates the heads of both.
            lora_rope_forward(
                y + rows.lowerBound * stride, stride, positions + rows.lowerBound, rotary.cosines, rotary.sines,
                rows.count, H + K, D, configuration.ropeUsesHalves ? 1 : 0)
        }
    }

    /// Shares T rows between the threads, which go through theirs a few at a time.
    func forEachRowBlock(_ T: Int, _ body: (_ rows: Range<Int>) -> Void) {
        pool.forEachRange(of: T) { range, _ in
            for lower in stride(from: range.lowerBound, to: range.upperBound, by: Self.rowBlock) {
                body(lower..<min(lower + Self.rowBlock, range.upperBound))
            }
        }
    }
}

/// Which low-rank branches a pass adds to which rows.
protocol LowRankPlan {
    /// y, rows `yStride` apart, ADDS the branch of `target` in `block` on `rows` of x (T, in).
    func add(
        _ target: TargetModule, _ block: Int, _ y: UnsafeMutablePointer<Float>, _ yStride: Int,
        _ x: UnsafePointer<Float>, _ rows: Range<Int>)

    /// Whether any row has a branch there.
    func reaches(_ target: TargetModule, _ block: Int) -> Bool
}
