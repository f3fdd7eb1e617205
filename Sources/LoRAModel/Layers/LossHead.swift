import CKernels

/// Final norm, output matrix and cross-entropy for the supervised rows alone, a chunk at a time: (T, V) never exists.
struct LossHead {
    let model: BaseModel
    let product: MatrixProduct
    /// Rows of a chunk.
    static let chunkRows = 256

    private let gathered: UnsafeMutablePointer<Float>  // (chunk, C)
    private let dGathered: UnsafeMutablePointer<Float>  // (chunk, C)
    private let dNormalized: UnsafeMutablePointer<Float>  // (chunk, C)
    private let scales: UnsafeMutablePointer<Float>  // (chunk)
    private let losses: UnsafeMutablePointer<Float>  // (chunk)
    private let logsumexp: UnsafeMutablePointer<Float>  // (chunk)
    private let normalized: ActivationBuffer  // (chunk, C)
    private let logits: ActivationBuffer  // (chunk, V)

    init(arena: Arena, model: BaseModel, product: MatrixProduct) {
        self.model = model
        self.product = product
        let (R, C, V) = (Self.chunkRows, model.configuration.hiddenSize, model.configuration.vocabularySize)
        gathered = arena.allocate(R * C)
        dGathered = arena.allocate(R * C)
        dNormalized = arena.allocate(R * C)
        scales = arena.allocate(R)
        losses = arena.allocate(R)
        logsumexp = arena.allocate(R)
        normalized = ActivationBuffer(arena: arena, compute: product.compute, rows: R, width: C)
        logits = ActivationBuffer(arena: arena, compute: product.compute, rows: R, width: V)
    }

    static func size(configuration: ModelConfiguration, compute: Compute) -> Int {
        let (R, C, V) = (chunkRows, configuration.hiddenSize, configuration.vocabularySize)
        return 3 * Arena.size(of: Float.self, count: R * C) + 3 * Arena.size(of: Float.self, count: R)
            + ActivationBuffer.size(compute: compute, rows: R, width: C)
            + ActivationBuffer.size(compute: compute, rows: R, width: V)
    }

    /// The sum of the losses of `batch`'s targets given the last block's output x (T, C). With `dx` (T, C), ADDS the
    /// gradient of `scale` times that sum.
    func run(
        _ x: UnsafePointer<Float>, _ batch: PackedBatch, dx: UnsafeMutablePointer<Float>?, scale: Float
    ) -> Double {
        var sum = 0.0
        for lower in stride(from: 0, to: batch.targets.count, by: Self.chunkRows) {
            let chunk = lower..<min(lower + Self.chunkRows, batch.targets.count)
            forward(x, batch, chunk, keepsGradient: dx != nil, scale: scale)
            for row in 0..<chunk.count { sum += Double(losses[row]) }
            if let dx { backward(dx, batch, chunk) }
        }
        return sum
    }

    private func forward(
        _ x: UnsafePointer<Float>, _ batch: PackedBatch, _ chunk: Range<Int>, keepsGradient: Bool, scale: Float
    ) {
        let configuration = model.configuration
        let (C, V) = (configuration.hiddenSize, configuration.vocabularySize)
        product.pool.forEachRange(of: chunk.count) { rows, _ in
            for row in rows {
                let source = Int(batch.targetRows[chunk.lowerBound + row])
                (gathered + row * C).update(from: x + source * C, count: C)
            }
            let first = rows.lowerBound
            lora_rmsnorm_forward(
                normalized.values() + first * C, scales + first, gathered + first * C, model.outputNorm,
                configuration.normEpsilon, rows.count, C)
            normalized.seal(rows: rows)
        }
        product.forward(logits.values(), normalized, rows: chunk.count, model.output)
        batch.targets.withUnsafeBufferPointer { targets in
            guard let targets = targets.baseAddress else { return }
            product.pool.forEachRange(of: chunk.count) { rows, _ in
                for row in rows {
                    let target = targets + chunk.lowerBound + row
                    lora_cross_entropy_forward(losses + row, logsumexp + row, logits.values() + row * V, target, 1, V)
                    guard keepsGradient else { continue }
                    lora_cross_entropy_backward(logits.values() + row * V, logsumexp + row, target, scale, 1, V)
                    logits.seal(rows: row..<row + 1)
                }
            }
        }
    }

    private func backward(_ dx: UnsafeMutablePointer<Float>, _ batch: PackedBatch, _ chunk: Range<Int>) {
        let C = model.configuration.hiddenSize
        product.backward(dNormalized, logits.operand(), rows: chunk.count, model.output)
        product.pool.forEachRange(of: chunk.count) { rows, _ in
            let first = rows.lowerBound
            (dGathered + first * C).update(repeating: 0, count: rows.count * C)
            lora_rmsnorm_backward(
                dGathered + first * C, dNormalized + first * C, gathered + first * C, model.outputNorm,
                scales + first, rows.count, C)
            for row in rows {
                let target = Int(batch.targetRows[chunk.lowerBound + row])
                lora_add(dx + target * C, dGathered + row * C, C)
            }
        }
    }
}
