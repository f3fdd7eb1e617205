import CKernels
import COpenBLAS
import LoRAFormats

/// Element type of the operands of matrix products; sums are always f32.
public enum Compute: String, Sendable, CaseIterable {
    case f32
    case bf16

    /// bf16 where the CPU multiplies it, else f32.
    public static var best: Compute { lora_cpu_best() == LORA_CPU_AVX512_BF16 ? .bf16 : .f32 }

    /// Whether this machine's engines can do it.
    public var isSupported: Bool { self == .f32 || lora_cpu_best().rawValue >= LORA_CPU_AVX512.rawValue }

    var bytes: Int { self == .bf16 ? 2 : 4 }
    var storedType: GGUFTensorType { self == .bf16 ? .bf16 : .f32 }
}

/// The one place where the base's matrices are multiplied.
///
/// Each thread expands its own share of a quantised matrix into scratch that stays in its cache, and multiplies all rows
/// of the input with it; no barrier lies between. oneDNN multiplies where the CPU has AVX-512, OpenBLAS elsewhere. With
/// oneDNN a row's result does not depend on the other rows; OpenBLAS has another kernel for the rows that fill no tile.
/// Inputs and outputs hold `paddedRows` rows: the last ones are computed but mean nothing.
final class MatrixProduct {
    let pool: ThreadPool
    let compute: Compute
    /// The engine's name for logs.
    var engineName: String { engines.isEmpty ? "OpenBLAS" : "oneDNN" }
    private let engines: [OneDNNProduct]
    private let scratch: [UnsafeMutableRawPointer]
    private let scratchCount: Int
    /// Up to so many rows, `forward` multiplies the stored blocks directly instead of expanding them: decoding reads
    /// every weight once and has few rows to use it on.
    private let directRows: Int

    /// Rows are padded to this, so that few shapes of product occur.
    static let rowMultiple = 16

    static func paddedRows(_ rows: Int) -> Int { (rows + rowMultiple - 1) / rowMultiple * rowMultiple }

    /// Elements that one thread expands at most: larger shares are multiplied in pieces.
    private static let scratchLimit = 2 << 20

    /// oneDNN needs AVX-512 to beat OpenBLAS.
    static var prefersOneDNN: Bool { lora_cpu_best().rawValue >= LORA_CPU_AVX512.rawValue }

    init(pool: ThreadPool, compute: Compute, directRows: Int = 0, usesOneDNN: Bool = prefersOneDNN) {
        self.pool = pool
        self.compute = compute
        self.directRows = directRows
        engines = usesOneDNN ? (0..<pool.count).map { _ in OneDNNProduct(compute: compute) } : []
        scratchCount = Self.scratchLimit
        scratch = (0..<pool.count).map { _ in
            UnsafeMutableRawPointer.allocate(byteCount: Self.scratchLimit * compute.bytes, alignment: 64)
        }
    }

    deinit { for pointer in scratch { pointer.deallocate() } }

    /// y (M,N) overwritten or added to: x (M,K) · Wᵀ with W (N,K), where x is a sealed slot.
    func forward(
        _ y: UnsafeMutablePointer<Float>, _ x: ActivationBuffer, _ slot: Int = 0, rows M: Int, _ W: StackedMatrix,
        accumulate: Bool = false
    ) {
        let direct = M <= directRows
        pool.forEachRange(of: W.rows, multiple: 16) { share, thread in
            if direct {
                self.forwardDirectly(
                    y, x.values(slot), rows: M, W, share: share, thread: thread, accumulate: accumulate)
            } else {
                self.forward(y, x.operand(slot), rows: M, W, share: share, thread: thread, accumulate: accumulate)
            }
        }
    }

    /// dx (M,K) overwritten or added to: dy (M,N) · W with W (N,K). dy holds `compute`'s elements.
    func backward(
        _ dx: UnsafeMutablePointer<Float>, _ dy: UnsafeRawPointer, rows M: Int, _ W: StackedMatrix,
        accumulate: Bool = false
    ) {
        pool.forEachRange(of: W.columns, multiple: max(16, W.columnMultiple)) { share, thread in
            self.backward(dx, dy, rows: M, W, share: share, thread: thread, accumulate: accumulate)
        }
    }

    private func forwardDirectly(
        _ y: UnsafeMutablePointer<Float>, _ x: UnsafePointer<Float>, rows M: Int, _ W: StackedMatrix,
        share: Range<Int>, thread: Int, accumulate: Bool
    ) {
        // A sum needs a place for its second term: the scratch holds the share's products.
        let fits = M * share.count <= scratchCount / (compute == .bf16 ? 2 : 1)
        precondition(!accumulate || fits, "\(M) × \(share.count) products in scratch of \(scratchCount)")
        let sums = scratch[thread].bindMemory(to: Float.self, capacity: M * share.count)
        W.forEachPart(in: share) { part, rows, at in
            let weights = part.bytes + rows.lowerBound * part.rowBytes
            let (out, stride) = accumulate ? (sums + at, share.count) : (y + share.lowerBound + at, W.rows)
            let status = lora_quantized_product(
                out, stride, x, weights, part.kernelType, M, rows.count, W.columns)
            precondition(status == 0, "no kernel multiplies \(part.type)")
        }
        guard accumulate else { return }
        for row in 0..<M { lora_add(y + row * W.rows + share.lowerBound, sums + row * share.count, share.count) }
    }

    private func forward(
        _ y: UnsafeMutablePointer<Float>, _ x: UnsafeRawPointer, rows M: Int, _ W: StackedMatrix, share: Range<Int>,
        thread: Int, accumulate: Bool
    ) {
        let K = W.columns
        let step = max(16, scratchCount / K / 16 * 16)
        for lower in stride(from: share.lowerBound, to: share.upperBound, by: step) {
            let rows = lower..<min(lower + step, share.upperBound)
            let weights = expanded(W, rows: rows, columns: 0..<K, thread: thread)
            multiply(
                y + rows.lowerBound, x, weights.pointer, thread: thread,
                .init(
                    M: Self.paddedRows(M), N: rows.count, K: K, xStride: K, wStride: weights.stride, yStride: W.rows,
                    transposed: true, accumulate: accumulate))
        }
    }

    /// The share is a range of columns of W; the sum runs over W's rows, in pieces that fit the scratch.
    private func backward(
        _ dx: UnsafeMutablePointer<Float>, _ dy: UnsafeRawPointer, rows M: Int, _ W: StackedMatrix, share: Range<Int>,
        thread: Int, accumulate: Bool
    ) {
        let N = W.rows
        let step = max(16, scratchCount / share.count / 16 * 16)
        for lower in stride(from: 0, to: N, by: step) {
            let rows = lower..<min(lower + step, N)
            let weights = expanded(W, rows: rows, columns: share, thread: thread)
            multiply(
                dx + share.lowerBound, dy + lower * compute.bytes, weights.pointer, thread: thread,
                .init(
                    M: Self.paddedRows(M), N: share.count, K: rows.count, xStride: N, wStride: weights.stride,
                    yStride: W.columns, transposed: false, accumulate: accumulate || lower > 0))
        }
    }

    /// W's elements as `compute` has them: in the map when it holds them so, else expanded into the thread's scratch.
    private func expanded(
        _ W: StackedMatrix, rows: Range<Int>, columns: Range<Int>, thread: Int
    ) -> (pointer: UnsafeRawPointer, stride: Int) {
        if let stored = W.stored(as: compute.storedType) {
            return (stored.bytes + (rows.lowerBound * W.columns + columns.lowerBound) * compute.bytes, W.columns)
        }
        W.forEachPart(in: rows) { part, partRows, at in
            switch compute {
            case .f32:
                let out = scratch[thread].bindMemory(to: Float.self, capacity: scratchCount)
                part.expand(out + at * columns.count, rows: partRows, columns: columns)
            case .bf16:
                let out = scratch[thread].bindMemory(to: UInt16.self, capacity: scratchCount)
                part.expand(out + at * columns.count, rows: partRows, columns: columns)
            }
        }
        return (UnsafeRawPointer(scratch[thread]), columns.count)
    }

    private func multiply(
        _ y: UnsafeMutablePointer<Float>, _ x: UnsafeRawPointer, _ w: UnsafeRawPointer, thread: Int,
        _ shape: OneDNNProduct.Shape
    ) {
        if !engines.isEmpty { return engines[thread].multiply(y, x, w, shape) }
        precondition(compute == .f32, "OpenBLAS multiplies f32 here, asked for \(compute)")
        cblas_sgemm(
            CblasRowMajor, CblasNoTrans, shape.transposed ? CblasTrans : CblasNoTrans, blasint(shape.M),
            blasint(shape.N), blasint(shape.K), 1, x.assumingMemoryBound(to: Float.self), blasint(shape.xStride),
            w.assumingMemoryBound(to: Float.self), blasint(shape.wStride), shape.accumulate ? 1 : 0, y,
            blasint(shape.yStride))
    }
}
