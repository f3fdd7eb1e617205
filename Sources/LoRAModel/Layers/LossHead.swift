import CKernels
import Foundation

/// Final norm, output matrix and cross-entropy for the supervised rows alone.
///
/// Rows are taken some hundred at a time and the vocabulary in panels, of which each is expanded, multiplied and turned
/// into exponentials relative to its own maximum: what is kept of the logits is as precise as the gradient that comes
/// of it, in half the memory.
struct LossHead {
    let model: BaseModel
    let product: MatrixProduct
    /// Rows at a time.
    private let rows: Int
    /// Tokens of a panel.
    private let panel: Int
    private let panelCount: Int

    private let gathered: UnsafeMutablePointer<Float>  // (rows, C)
    private let normalized: ActivationBuffer  // (rows, C)
    private let scales: UnsafeMutablePointer<Float>  // (rows)
    private let exponentials: UnsafeMutableRawPointer  // (rows, V) in the element type of products
    private let maxima: UnsafeMutablePointer<Float>  // (rows, panels)
    private let sums: UnsafeMutablePointer<Float>  // (rows, panels)
    private let targetLogits: UnsafeMutablePointer<Float>  // (rows)
    private let logsumexp: UnsafeMutablePointer<Float>  // (rows)
    private let losses: UnsafeMutablePointer<Float>  // (targets)
    private let factors: UnsafeMutablePointer<Float>  // (targets)
    private let dNormalized: UnsafeMutablePointer<Float>  // (rows, C)
    private let logits: [ActivationBuffer]  // (threads, chunk, panel)
    private let weights: ExpansionBuffer

    /// Rows at a time at most: enough to pay for expanding the matrix.
    static let maximumRows = 512
    /// Exponentials at most, but for the rows of a product.
    private static let exponentialCount = 25_165_824

    private struct Sizes {
        let rows: Int
        let panel: Int
        let panelCount: Int

        init(_ configuration: ModelConfiguration, capacity: Int) {
            let V = configuration.vocabularySize
            let fitting = LossHead.exponentialCount / V
            rows = min(MatrixProduct.paddedRows(capacity), LossHead.maximumRows, max(16, fitting / 16 * 16))
            panel = min(V, 1024)
            panelCount = (V + panel - 1) / panel
        }
    }

    /// - Parameter capacity: rows that a batch may have.
    init(arena: Arena, model: BaseModel, product: MatrixProduct, capacity: Int) {
        self.model = model
        self.product = product
        let (C, compute) = (model.configuration.hiddenSize, product.compute)
        let sizes = Sizes(model.configuration, capacity: capacity)
        let R = sizes.rows
        (rows, panel, panelCount) = (R, sizes.panel, sizes.panelCount)
        gathered = arena.allocate(R * C)
        normalized = ActivationBuffer(arena: arena, compute: compute, rows: R, width: C)
        scales = arena.allocate(R)
        exponentials = UnsafeMutableRawPointer(
            arena.allocate(R * model.configuration.vocabularySize * compute.bytes, of: UInt8.self))
        maxima = arena.allocate(R * sizes.panelCount)
        sums = arena.allocate(R * sizes.panelCount)
        targetLogits = arena.allocate(R)
        logsumexp = arena.allocate(R)
        losses = arena.allocate(capacity)
        factors = arena.allocate(capacity)
        dNormalized = arena.allocate(R * C)
        logits = (0..<product.pool.count).map { _ in
            ActivationBuffer(arena: arena, compute: compute, rows: ThreadPool.rowChunk, width: sizes.panel)
        }
        weights = ExpansionBuffer(arena: arena, rows: sizes.panel, columns: C, compute: compute)
    }

    static func size(configuration: ModelConfiguration, compute: Compute, capacity: Int, threads: Int) -> Int {
        let (C, V) = (configuration.hiddenSize, configuration.vocabularySize)
        let sizes = Sizes(configuration, capacity: capacity)
        let R = sizes.rows
        let floats = [R * C, R, R * sizes.panelCount, R * sizes.panelCount, R, R, capacity, capacity, R * C]
        return floats.reduce(0) { $0 + Arena.size(of: Float.self, count: $1) }
            + ActivationBuffer.size(compute: compute, rows: R, width: C)
            + Arena.size(of: UInt8.self, count: R * V * compute.bytes)
            + threads * ActivationBuffer.size(compute: compute, rows: ThreadPool.rowChunk, width: sizes.panel)
            + ExpansionBuffer.size(rows: sizes.panel, columns: C, compute: compute)
    }

    /// The sum of the losses of `batch`'s targets given the last block's output x (T, C). With `dx` (T, C), ADDS the
    /// gradient of `scale` times that sum.
    func run(
        _ x: UnsafePointer<Float>, _ batch: PackedBatch, dx: UnsafeMutablePointer<Float>?, scale: Float
    ) -> Double {
        var sum = 0.0
        for part in 0..<partCount(batch) {
            let targets = targets(batch, part)
            forward(x, batch, targets, keepsGradient: dx != nil)
            for target in targets { sum += Double(losses[target]) }
            if let dx { backward(dx, batch, targets, scale: scale, factors: nil) }
        }
        return sum
    }

    /// The loss of each of `batch`'s targets, valid until the next run.
    func losses(_ x: UnsafePointer<Float>, _ batch: PackedBatch) -> UnsafeBufferPointer<Float> {
        for part in 0..<partCount(batch) { forward(x, batch, targets(batch, part), keepsGradient: false) }
        return UnsafeBufferPointer(start: losses, count: batch.targets.count)
    }

    /// ADDS to `dx` (T, C) the gradient of a function of all losses. `differentiate` gets them and leaves the function's
    /// derivatives by them in their place. Where a batch has more targets than are taken at a time, their forward pass
    /// is repeated.
    func run(
        _ x: UnsafePointer<Float>, _ batch: PackedBatch, dx: UnsafeMutablePointer<Float>,
        differentiate: (UnsafeMutableBufferPointer<Float>) -> Void
    ) {
        let parts = partCount(batch)
        for part in 0..<parts { forward(x, batch, targets(batch, part), keepsGradient: parts == 1) }
        factors.update(from: losses, count: batch.targets.count)
        differentiate(UnsafeMutableBufferPointer(start: factors, count: batch.targets.count))
        for part in 0..<parts {
            let targets = targets(batch, part)
            if parts > 1 { forward(x, batch, targets, keepsGradient: true) }
            backward(dx, batch, targets, scale: 1, factors: factors + targets.lowerBound)
        }
    }

    private func partCount(_ batch: PackedBatch) -> Int { (batch.targets.count + rows - 1) / rows }

    /// The targets that are taken together.
    private func targets(_ batch: PackedBatch, _ part: Int) -> Range<Int> {
        let (count, parts) = (batch.targets.count, partCount(batch))
        return part * count / parts..<(part + 1) * count / parts
    }

    private func normalize(_ x: UnsafePointer<Float>, _ sources: ArraySlice<Int32>) {
        let (C, first) = (model.configuration.hiddenSize, sources.startIndex)
        product.pool.forEachRowChunk(sources.count) { rows, _ in
            for row in rows { (gathered + row * C).update(from: x + Int(sources[first + row]) * C, count: C) }
            lora_rmsnorm_forward(
                normalized.values(row: rows.lowerBound), scales + rows.lowerBound, gathered + rows.lowerBound * C,
                model.outputNorm, model.configuration.normEpsilon, rows.count, C)
            normalized.seal(rows: rows)
        }
    }

    // MARK: Forward

    private func forward(
        _ x: UnsafePointer<Float>, _ batch: PackedBatch, _ range: Range<Int>, keepsGradient: Bool
    ) {
        normalize(x, batch.targetRows[range])
        let targets = batch.targets[range]
        let V = model.configuration.vocabularySize
        for index in 0..<panelCount {
            let tokens = index * panel..<min((index + 1) * panel, V)
            let w = product.expand(model.output, rows: tokens, .forward, into: weights)
            product.pool.forEachRowChunk(targets.count) { rows, thread in
                let y = logits[thread].values()
                product.multiply(y, normalized.operand(row: rows.lowerBound), rows: rows.count, w, thread: thread)
                for row in rows {
                    let values = y + (row - rows.lowerBound) * tokens.count
                    let target = Int(targets[targets.startIndex + row])
                    if tokens.contains(target) { targetLogits[row] = values[target - tokens.lowerBound] }
                    exponentiate(values, row, index, tokens, keepsGradient: keepsGradient)
                }
            }
        }
        product.pool.forEachRange(of: targets.count) { rows, _ in
            for row in rows { losses[targets.startIndex + row] = finish(row) }
        }
    }

    private func exponentiate(
        _ values: UnsafeMutablePointer<Float>, _ row: Int, _ index: Int, _ tokens: Range<Int>, keepsGradient: Bool
    ) {
        let at = row * panelCount + index
        let place = keepsGradient ? exponential(row, tokens.lowerBound) : nil
        switch product.compute {
        case .f32:
            lora_exponentials_f32(
                place?.assumingMemoryBound(to: Float.self), maxima + at, sums + at, values, tokens.count)
        case .bf16:
            lora_exponentials_bf16(
                place?.assumingMemoryBound(to: UInt16.self), maxima + at, sums + at, values, tokens.count)
        }
    }

    private func exponential(_ row: Int, _ token: Int) -> UnsafeMutableRawPointer {
        exponentials + (row * model.configuration.vocabularySize + token) * product.compute.bytes
    }

    /// Joins the panels of a row.
    /// - Returns: Its loss.
    private func finish(_ row: Int) -> Float {
        let panels = row * panelCount..<(row + 1) * panelCount
        let largest = panels.reduce(-Float.infinity) { max($0, maxima[$1]) }
        // Relative to the largest logit no exponential overflows, and the sum is at least 1.
        let logarithm = log(panels.reduce(Float(0)) { $0 + sums[$1] * exp(maxima[$1] - largest) })
        logsumexp[row] = largest + logarithm
        return (largest - targetLogits[row]) + logarithm
    }

    // MARK: Backward

    /// - Parameter factors: (range) of the targets' own, in place of `scale`.
    private func backward(
        _ dx: UnsafeMutablePointer<Float>, _ batch: PackedBatch, _ range: Range<Int>, scale: Float,
        factors: UnsafePointer<Float>?
    ) {
        let (C, V) = (model.configuration.hiddenSize, model.configuration.vocabularySize)
        let (targets, sources) = (batch.targets[range], batch.targetRows[range])
        for index in 0..<panelCount {
            let tokens = index * panel..<min((index + 1) * panel, V)
            let w = product.expand(model.output, rows: tokens, .backward, into: weights)
            product.pool.forEachRowChunk(targets.count) { rows, thread in
                for row in rows {
                    let target = Int(targets[targets.startIndex + row])
                    let scale = factors?[row] ?? scale
                    dLogits(
                        row, index, tokens, target: target, loss: losses[range.lowerBound + row], scale: scale,
                        logits[thread], row - rows.lowerBound)
                }
                product.multiply(
                    dNormalized + rows.lowerBound * C, logits[thread].operand(), rows: rows.count, w, thread: thread,
                    accumulate: index > 0)
            }
        }
        product.pool.forEachRowChunk(targets.count) { rows, _ in
            for row in rows {
                // Each row is the source of one target.
                lora_rmsnorm_backward(
                    dx + Int(sources[sources.startIndex + row]) * C, dNormalized + row * C, gathered + row * C,
                    model.outputNorm, scales + row, 1, C)
            }
        }
    }

    /// scale · (softmax - onehot(target)) of a panel, in the element type of products.
    private func dLogits(
        _ row: Int, _ index: Int, _ tokens: Range<Int>, target: Int, loss: Float, scale: Float,
        _ out: ActivationBuffer, _ at: Int
    ) {
        let factor = scale * exp(maxima[row * panelCount + index] - logsumexp[row])
        let values = UnsafeRawPointer(exponential(row, tokens.lowerBound))
        // The target's own is its probability less 1, which would cancel near certainty.
        let own = scale * expm1(-loss)
        switch product.compute {
        case .f32:
            let to = out.values() + at * tokens.count
            lora_scaled_f32(to, values.assumingMemoryBound(to: Float.self), factor, tokens.count)
            if tokens.contains(target) { to[target - tokens.lowerBound] = own }
        case .bf16:
            let to = out.halves() + at * tokens.count
            lora_scaled_bf16(to, values.assumingMemoryBound(to: UInt16.self), factor, tokens.count)
            if tokens.contains(target) {
                withUnsafePointer(to: own) { lora_f32_to_bf16(to + target - tokens.lowerBound, $0, 1) }
            }
        }
    }
}
