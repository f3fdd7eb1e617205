import CKernels

/// The low-rank branches of the block at hand by the engine that multiplies the base, for ranks that are worth it: the
/// arithmetic of `LowRankBranch`, with operands in the element type of products.
final class LowRankProducts {
    private let product: MatrixProduct
    private let layout: AdapterLayout
    private let parameters: UnsafePointer<Float>
    /// The parameters of the block at hand, rounded; nil where products take f32.
    private let rounded: UnsafeMutablePointer<UInt16>?
    private var start = 0  // of the block in the parameters
    private let workspaces: [Workspace]

    /// From this rank on products are faster than kernels that go over x and y once.
    static let smallestRank = 32

    /// What one thread needs for the rows of a chunk.
    private struct Workspace {
        let scaled: UnsafeMutablePointer<Float>  // (chunk, r): s · h, or s · dh
        let rounded: UnsafeMutablePointer<UInt16>?  // (chunk, r): the same as an operand, where that is bf16
        let transposed: UnsafeMutableRawPointer  // (r, chunk) in products' elements
    }

    /// nil where no branch is multiplied so.
    init?(arena: Arena, parameters: AdapterParameters, product: MatrixProduct, dropout: Float) {
        layout = parameters.layout
        guard Self.applies(layout, dropout: dropout) else { return nil }
        self.product = product
        self.parameters = UnsafePointer(parameters.values)
        let rounds = product.compute == .bf16
        rounded = rounds ? arena.allocate(layout.largestBlockCount) : nil
        let count = ThreadPool.rowChunk * layout.largestRank
        workspaces = (0..<product.pool.count).map { _ in
            Workspace(
                scaled: arena.allocate(count), rounded: rounds ? arena.allocate(count) : nil,
                transposed: UnsafeMutableRawPointer(
                    arena.allocate(count * product.compute.bytes, of: UInt8.self)))
        }
    }

    static func size(layout: AdapterLayout, compute: Compute, dropout: Float, threads: Int) -> Int {
        guard applies(layout, dropout: dropout) else { return 0 }
        let count = ThreadPool.rowChunk * layout.largestRank
        let (block, rounded) =
            compute == .bf16
            ? (Arena.size(of: UInt16.self, count: layout.largestBlockCount), Arena.size(of: UInt16.self, count: count))
            : (0, 0)
        return block + threads
            * (Arena.size(of: Float.self, count: count) + rounded
                + Arena.size(of: UInt8.self, count: count * compute.bytes))
    }

    /// Dropout gives each branch an input of its own.
    private static func applies(_ layout: AdapterLayout, dropout: Float) -> Bool {
        dropout == 0 && layout.largestRank >= smallestRank
    }

    static func multiplies(_ pair: LowRankPair) -> Bool { pair.rank >= smallestRank && pair.rowFactors == .none }

    /// Readies the parameters of `block` as they are now, with all threads.
    func prepare(_ block: Int) {
        let pairs = layout.pairs(block: block)
        guard let first = pairs.first, let last = pairs.last else { return }
        start = first.offset
        guard let rounded else { return }
        product.pool.forEachRange(of: last.end - start, multiple: 64) { range, _ in
            lora_f32_to_bf16(rounded + range.lowerBound, parameters + start + range.lowerBound, range.count)
        }
    }

    private func matrixA(_ pair: LowRankPair) -> UnsafeRawPointer { operand(pair.offset) }
    private func matrixB(_ pair: LowRankPair) -> UnsafeRawPointer { operand(pair.offsetB) }

    /// The parameters from `offset` on.
    private func operand(_ offset: Int) -> UnsafeRawPointer {
        if let rounded { UnsafeRawPointer(rounded + offset - start) } else { UnsafeRawPointer(parameters + offset) }
    }

    /// h (rows, r) = x Aᵀ.
    func project(_ pair: LowRankPair, h: UnsafeMutablePointer<Float>, _ x: ActivationRows, rows T: Int, thread: Int) {
        product.multiply(
            h, x.operand, matrixA(pair),
            .init(
                M: MatrixProduct.paddedRows(T), N: pair.rank, K: pair.inputs, xStride: x.stride, yStride: pair.rank,
                order: .outputRows(stride: pair.inputs), accumulate: false), thread: thread)
    }

    /// y ADDS s · h Bᵀ.
    func add(
        _ pair: LowRankPair, _ y: UnsafeMutablePointer<Float>, stride: Int, h: UnsafePointer<Float>, rows T: Int,
        thread: Int
    ) {
        product.multiply(
            y, scaled(h, pair, rows: T, thread: thread), matrixB(pair),
            .init(
                M: MatrixProduct.paddedRows(T), N: pair.outputs, K: pair.rank, xStride: pair.rank, yStride: stride,
                order: .outputRows(stride: pair.rank), accumulate: true), thread: thread)
    }

    /// dA (r, in) and the transpose of dB (r, out), which stands in its place, ADD unless `overwrites`; dx ADDS unless nil.
    func backward(
        _ pair: LowRankPair, dx: UnsafeMutablePointer<Float>?, gradients: UnsafeMutablePointer<Float>,
        overwrites: Bool, dh: UnsafeMutablePointer<Float>, dy: ActivationRows, h: UnsafePointer<Float>,
        _ x: ActivationRows, rows T: Int,
        thread: Int
    ) {
        let (r, M) = (pair.rank, MatrixProduct.paddedRows(T))
        product.multiply(
            dh, dy.operand, matrixB(pair),
            .init(
                M: M, N: r, K: pair.outputs, xStride: dy.stride, yStride: r, order: .termRows(stride: r),
                accumulate: false), thread: thread)
        gradient(
            gradients + pair.countA, h, dy, pair, columns: pair.outputs, rows: T, adds: !overwrites, thread: thread)
        gradient(gradients, dh, x, pair, columns: pair.inputs, rows: T, adds: !overwrites, thread: thread)
        guard let dx else { return }
        product.multiply(
            dx, scaled(dh, pair, rows: T, thread: thread), matrixA(pair),
            .init(
                M: M, N: pair.inputs, K: r, xStride: r, yStride: pair.inputs, order: .termRows(stride: pair.inputs),
                accumulate: true), thread: thread)
    }

    /// sum (r, columns) overwritten or added to: s times the transpose of h (rows, r) times other (rows, columns).
    private func gradient(
        _ sum: UnsafeMutablePointer<Float>, _ h: UnsafePointer<Float>, _ other: ActivationRows, _ pair: LowRankPair,
        columns: Int, rows T: Int, adds: Bool, thread: Int
    ) {
        // The columns of the transpose that no row fills are zero, whatever the other's rows there hold.
        let (transposed, K) = (workspaces[thread].transposed, MatrixProduct.paddedRows(T))
        switch product.compute {
        case .f32:
            lora_transpose_f32(transposed.assumingMemoryBound(to: Float.self), K, h, pair.scale, T, pair.rank)
        case .bf16:
            lora_transpose_bf16(transposed.assumingMemoryBound(to: UInt16.self), K, h, pair.scale, T, pair.rank)
        }
        product.multiply(
            sum, UnsafeRawPointer(transposed), other.operand,
            .init(
                M: pair.rank, N: columns, K: K, xStride: K, yStride: columns, order: .termRows(stride: other.stride),
                accumulate: adds), thread: thread)
    }

    /// s times rows of rank r, as an operand.
    private func scaled(
        _ h: UnsafePointer<Float>, _ pair: LowRankPair, rows T: Int, thread: Int
    ) -> UnsafeRawPointer {
        let (workspace, count) = (workspaces[thread], T * pair.rank)
        lora_scaled_f32(workspace.scaled, h, pair.scale, count)
        guard let rounded = workspace.rounded else { return UnsafeRawPointer(workspace.scaled) }
        lora_f32_to_bf16(rounded, workspace.scaled, count)
        return UnsafeRawPointer(rounded)
    }
}
