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
}

/// The one place where the base's matrices are multiplied.
///
/// The threads expand a matrix together, then each multiplies rows of its own. oneDNN multiplies where the CPU has
/// AVX-512, reading weights in its own order; OpenBLAS elsewhere. With oneDNN a row's result does not depend on the other
/// rows; OpenBLAS has another kernel for the rows that fill no tile. Inputs and outputs hold `paddedRows` rows: the last
/// ones are computed but mean nothing.
final class MatrixProduct {
    let pool: ThreadPool
    let compute: Compute
    /// The engine's name for logs.
    var engineName: String { engines.isEmpty ? "OpenBLAS" : "oneDNN" }
    /// Whether stored blocks are multiplied as they are instead of being expanded: decoding reads every weight once and
    /// has few rows to use it on.
    var readsStored = false
    /// Whether operands are bf16 and the CPU multiplies that.
    let multipliesHalves: Bool
    private let engines: [OneDNNProduct]
    private let packs: Bool
    /// Rows on their way into an expanded matrix; the first, operands of a direct product.
    private let scratch: [UnsafeMutableRawPointer]

    /// Rows are padded to this, so that few shapes of product occur.
    static let rowMultiple = 16

    static func paddedRows(_ rows: Int) -> Int { ExpandedMatrix.padded(rows, rowMultiple) }

    /// f32 elements of a thread's scratch: 32 rows of the widest matrix.
    private static let scratchCount = 2 << 20

    /// oneDNN needs AVX-512 to beat OpenBLAS.
    static var prefersOneDNN: Bool { lora_cpu_best().rawValue >= LORA_CPU_AVX512.rawValue }

    init(pool: ThreadPool, compute: Compute, usesOneDNN: Bool = prefersOneDNN) {
        self.pool = pool
        self.compute = compute
        multipliesHalves = compute == .bf16 && Compute.best == .bf16
        engines = usesOneDNN ? (0..<pool.count).map { _ in OneDNNProduct(compute: compute) } : []
        // Its own order has a fast kernel only where the CPU multiplies the element type.
        packs = usesOneDNN && (compute == .f32 ? Self.prefersOneDNN : Compute.best == .bf16)
        scratch = (0..<pool.count).map { _ in
            UnsafeMutableRawPointer.allocate(byteCount: Self.scratchCount * 4, alignment: 64)
        }
    }

    deinit { for pointer in scratch { pointer.deallocate() } }

    // MARK: A matrix for many products

    /// Expands `rows` of W (all of them when nil) into `buffer`, with all threads.
    func expand(
        _ W: StackedMatrix, rows: Range<Int>? = nil, _ direction: ExpandedMatrix.Direction, into buffer: ExpansionBuffer
    ) -> ExpandedMatrix {
        let (rows, out) = (rows ?? 0..<W.rows, buffer.bytes)
        let multiple = direction == .forward ? ExpandedMatrix.outputBlock : ExpandedMatrix.termMultiple(compute)
        let count = packs ? ExpandedMatrix.padded(rows.count, multiple) : rows.count
        let order = order(direction, rows: rows.count, columns: W.columns)
        pool.forEachRange(of: count, multiple: 16) { share, thread in
            for lower in stride(from: share.lowerBound, to: share.upperBound, by: 16) {
                let group = lower..<min(lower + 16, share.upperBound)
                if packs {
                    pack(W, group, of: rows, direction, into: out, thread: thread)
                } else {
                    let from = rows.lowerBound + group.lowerBound
                    expand(W, from..<from + group.count, order, at: group.lowerBound, direction, into: out, thread)
                }
            }
        }
        return ExpandedMatrix(
            bytes: UnsafeRawPointer(out), direction: direction, rows: rows.count, columns: W.columns, order: order)
    }

    /// OpenBLAS takes longer over rows of outputs than over rows of terms.
    private func order(_ direction: ExpandedMatrix.Direction, rows: Int, columns: Int) -> OneDNNProduct.Order {
        if packs { return .packed }
        if direction == .backward { return .termRows(stride: columns) }
        return compute == .f32
            ? .termRows(stride: ExpandedMatrix.padded(rows, 16)) : .outputRows(stride: columns)
    }

    /// Expands 16 rows, of which those beyond `rows` are zero, into the thread's scratch and packs them.
    private func pack(
        _ W: StackedMatrix, _ group: Range<Int>, of rows: Range<Int>, _ direction: ExpandedMatrix.Direction,
        into out: UnsafeMutableRawPointer, thread: Int
    ) {
        let width = ExpandedMatrix.padded(W.columns, ExpandedMatrix.outputBlock)
        let held = group.clamped(to: 0..<rows.count)
        let values = scratch[thread]
        if held.count < 16 || width > W.columns {
            values.initializeMemory(as: UInt8.self, repeating: 0, count: 16 * width * compute.bytes)
        }
        let from = rows.lowerBound + held.lowerBound
        expandRows(W, from..<from + held.count, into: values, stride: width)
        let first = group.lowerBound
        switch direction {
        case .forward:
            let terms = ExpandedMatrix.padded(W.columns, ExpandedMatrix.termMultiple(compute))
            // A block holds 64 outputs, side by side for each term (or pair of terms).
            let (block, lane) = (first / 64 * 64 * terms, first % 64)
            switch compute {
            case .f32:
                lora_pack_outputs_f32(floats(out) + block + lane, floats(values), width, terms)
            case .bf16:
                lora_pack_outputs_bf16(halves(out) + block + 2 * lane, halves(values), width, terms)
            }
        case .backward:
            let terms = ExpandedMatrix.padded(rows.count, ExpandedMatrix.termMultiple(compute))
            let block = ExpandedMatrix.outputBlock * terms
            switch compute {
            case .f32: lora_pack_terms_f32(floats(out) + first * 64, block, floats(values), width, width)
            case .bf16: lora_pack_terms_bf16(halves(out) + first * 64, block, halves(values), width, width)
            }
        }
    }

    /// Up to 16 rows of W, the first of which comes at place `first`, without packing.
    private func expand(
        _ W: StackedMatrix, _ rows: Range<Int>, _ order: OneDNNProduct.Order, at first: Int,
        _ direction: ExpandedMatrix.Direction, into out: UnsafeMutableRawPointer, _ thread: Int
    ) {
        guard direction == .forward, case .termRows(let stride) = order else {
            return expandRows(W, rows, into: out + first * W.columns * compute.bytes, stride: W.columns)
        }
        expandRows(W, rows, into: scratch[thread], stride: W.columns)
        lora_transpose_f32(floats(out) + first, stride, floats(scratch[thread]), 1, rows.count, W.columns)
    }

    /// Rows of W in `compute`'s elements, `stride` apart.
    private func expandRows(_ W: StackedMatrix, _ rows: Range<Int>, into out: UnsafeMutableRawPointer, stride: Int) {
        W.forEachPart(in: rows) { part, partRows, at in
            for (index, row) in partRows.enumerated() {
                let to = out + (at + index) * stride * compute.bytes
                switch compute {
                case .f32: part.expand(floats(to), row: row)
                case .bf16: part.expand(halves(to), row: row)
                }
            }
        }
    }

    private func floats(_ pointer: UnsafeMutableRawPointer) -> UnsafeMutablePointer<Float> {
        pointer.assumingMemoryBound(to: Float.self)
    }

    private func halves(_ pointer: UnsafeMutableRawPointer) -> UnsafeMutablePointer<UInt16> {
        pointer.assumingMemoryBound(to: UInt16.self)
    }

    /// y (M, outputs) overwritten or added to: x (M, terms) times an expanded matrix, by one thread alone. x holds
    /// `compute`'s elements; rows of x and y follow each other.
    func multiply(
        _ y: UnsafeMutablePointer<Float>, _ x: UnsafeRawPointer, rows M: Int, _ w: ExpandedMatrix, thread: Int,
        accumulate: Bool = false
    ) {
        multiply(
            y, x, w.bytes,
            .init(
                M: Self.paddedRows(M), N: w.outputs, K: w.terms, xStride: w.terms, yStride: w.outputs, order: w.order,
                accumulate: accumulate), thread: thread)
    }

    /// A product of any two matrices in `compute`'s elements, by one thread alone.
    func multiply(
        _ y: UnsafeMutablePointer<Float>, _ x: UnsafeRawPointer, _ w: UnsafeRawPointer, _ shape: OneDNNProduct.Shape,
        thread: Int
    ) {
        guard engines.isEmpty else { return engines[thread].multiply(y, x, w, shape) }
        precondition(compute == .f32, "OpenBLAS multiplies f32 here, asked for \(compute)")
        let (transposed, wStride) =
            switch shape.order {
            case .outputRows(let stride): (true, stride)
            case .termRows(let stride): (false, stride)
            case .packed: preconditionFailure("OpenBLAS reads rows")
            }
        cblas_sgemm(
            CblasRowMajor, CblasNoTrans, transposed ? CblasTrans : CblasNoTrans, blasint(shape.M), blasint(shape.N),
            blasint(shape.K), 1, x.assumingMemoryBound(to: Float.self), blasint(shape.xStride),
            w.assumingMemoryBound(to: Float.self), blasint(wStride), shape.accumulate ? 1 : 0, y,
            blasint(shape.yStride))
    }

    // MARK: Few rows

    /// Whether operands of direct products are rounded: not where a pass of many rows ends with a few, as those may
    /// have the precision of f32 for little.
    private var roundsDirectly: Bool { readsStored && multipliesHalves }

    /// y (M, N), rows `stride` apart, overwritten or added to: x (M, K) in f32 times the stored blocks of W (N, K), by
    /// all threads.
    func forwardDirectly(
        _ y: UnsafeMutablePointer<Float>, stride: Int, _ x: UnsafePointer<Float>, rows M: Int, _ W: StackedMatrix,
        accumulate: Bool = false
    ) {
        let (rounds, rounded) = (roundsDirectly, halves(scratch[0]))
        if rounds {
            let count = lora_grouped_rows_count(M, W.columns)
            precondition(count <= 2 * Self.scratchCount, "\(M) × \(W.columns) operands of a direct product")
            lora_group_rows_bf16(rounded, x, M, W.columns)
        }
        pool.forEachRange(of: W.rows, multiple: 16) { share, _ in
            W.forEachPart(in: share) { part, rows, at in
                let (out, weights) = (y + share.lowerBound + at, part.bytes + rows.lowerBound * part.rowBytes)
                let (type, N, K, adds) = (part.kernelType, rows.count, W.columns, Int32(accumulate ? 1 : 0))
                let status =
                    rounds
                    ? lora_quantized_product_bf16(out, stride, rounded, weights, type, M, N, K, adds)
                    : lora_quantized_product(out, stride, x, weights, type, M, N, K, adds)
                precondition(status == 0, "no kernel multiplies \(part.type)")
            }
        }
    }
}
