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
/// The threads expand a matrix together into the order that the engine reads, then each multiplies rows of its own.
/// oneDNN multiplies where the CPU has AVX-512, a kernel of this project elsewhere; with either a row's result does not
/// depend on the other rows. OpenBLAS's would: it multiplies, without AVX-512, what is no matrix of the base. Inputs and
/// outputs hold `paddedRows` rows: the last ones may be computed but mean nothing.
final class MatrixProduct {
    let pool: ThreadPool
    let compute: Compute
    /// The engine's name for logs.
    var engineName: String { engines.isEmpty ? "lora's kernels" : "oneDNN" }
    /// Whether stored blocks are multiplied as they are instead of being expanded: decoding reads every weight once and
    /// has few rows to use it on.
    var readsStored = false
    /// Whether operands are bf16 and the CPU multiplies that.
    let multipliesHalves: Bool
    private let engines: [OneDNNProduct]
    /// Outputs of a block of a packed matrix; nil where the engine reads rows.
    private let packedOutputs: Int?
    /// Rows on their way into an expanded matrix; the first, operands of a direct product.
    private let scratch: [UnsafeMutableRawPointer]

    /// Rows are padded to this, so that few shapes of product occur.
    static let rowMultiple = 16

    static func paddedRows(_ rows: Int) -> Int { ExpandedMatrix.padded(rows, rowMultiple) }

    /// Outputs of a block that `lora_packed_product` reads.
    private static let ownOutputs = 16

    /// f32 elements of a thread's scratch: 32 rows of the widest matrix.
    private static let scratchCount = 2 << 20

    /// oneDNN needs AVX-512 to beat the others.
    static var prefersOneDNN: Bool { lora_cpu_best().rawValue >= LORA_CPU_AVX512.rawValue }

    /// Whether operands in `compute`'s elements are bf16 and the CPU multiplies that.
    static func multipliesHalves(_ compute: Compute) -> Bool { compute == .bf16 && Compute.best == .bf16 }

    init(pool: ThreadPool, compute: Compute, usesOneDNN: Bool = prefersOneDNN) {
        self.pool = pool
        self.compute = compute
        multipliesHalves = Self.multipliesHalves(compute)
        engines = usesOneDNN ? (0..<pool.count).map { _ in OneDNNProduct(compute: compute) } : []
        // oneDNN's own order has a fast kernel only where the CPU multiplies the element type.
        let packs = compute == .f32 ? Self.prefersOneDNN : Compute.best == .bf16
        packedOutputs = usesOneDNN ? (packs ? 64 : nil) : Self.ownOutputs
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
        let termMultiple = ExpandedMatrix.termMultiple(compute)
        let multiple = packedOutputs.map { direction == .forward ? $0 : termMultiple }
        let count = ExpandedMatrix.padded(rows.count, multiple ?? 1)
        pool.forEachRange(of: count, multiple: 16) { share, thread in
            for lower in stride(from: share.lowerBound, to: share.upperBound, by: 16) {
                let group = lower..<min(lower + 16, share.upperBound)
                if let packedOutputs {
                    pack(W, group, of: rows, direction, blocks: packedOutputs, into: out, thread: thread)
                } else {
                    let from = rows.lowerBound + group.lowerBound
                    let to = out + group.lowerBound * W.columns * compute.bytes
                    expandRows(W, from..<from + group.count, into: to, stride: W.columns)
                }
            }
        }
        return ExpandedMatrix(
            bytes: UnsafeRawPointer(out), direction: direction, rows: rows.count, columns: W.columns,
            order: order(direction, columns: W.columns))
    }

    private func order(_ direction: ExpandedMatrix.Direction, columns: Int) -> OneDNNProduct.Order {
        if packedOutputs != nil { return .packed }
        return direction == .backward ? .termRows(stride: columns) : .outputRows(stride: columns)
    }

    /// Expands 16 rows, of which those beyond `rows` are zero, into the thread's scratch and packs them.
    private func pack(
        _ W: StackedMatrix, _ group: Range<Int>, of rows: Range<Int>, _ direction: ExpandedMatrix.Direction,
        blocks outputs: Int, into out: UnsafeMutableRawPointer, thread: Int
    ) {
        let width = ExpandedMatrix.padded(W.columns, max(outputs, ExpandedMatrix.termMultiple(compute)))
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
            // A block holds its outputs side by side for each term (or pair of terms).
            let (block, lane) = (first / outputs * outputs * terms, first % outputs)
            switch compute {
            case .f32:
                lora_pack_outputs_f32(floats(out) + block + lane, outputs, floats(values), width, terms)
            case .bf16:
                lora_pack_outputs_bf16(halves(out) + block + 2 * lane, halves(values), width, terms)
            }
        case .backward:
            let terms = ExpandedMatrix.padded(rows.count, ExpandedMatrix.termMultiple(compute))
            let (to, block) = (first * outputs, outputs * terms)
            switch compute {
            case .f32: lora_pack_terms_f32(floats(out) + to, outputs, block, floats(values), width, width)
            case .bf16: lora_pack_terms_bf16(halves(out) + to, block, halves(values), width, width)
            }
        }
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
                M: engines.isEmpty ? M : Self.paddedRows(M), N: w.outputs, K: w.terms, xStride: w.terms,
                yStride: w.outputs, order: w.order, accumulate: accumulate), thread: thread)
    }

    /// A product of any two matrices in `compute`'s elements, by one thread alone.
    func multiply(
        _ y: UnsafeMutablePointer<Float>, _ x: UnsafeRawPointer, _ w: UnsafeRawPointer, _ shape: OneDNNProduct.Shape,
        thread: Int
    ) {
        guard engines.isEmpty else { return engines[thread].multiply(y, x, w, shape) }
        precondition(compute == .f32, "f32 is multiplied here, asked for \(compute)")
        let (x, w) = (x.assumingMemoryBound(to: Float.self), w.assumingMemoryBound(to: Float.self))
        let accumulates: Int32 = shape.accumulate ? 1 : 0
        switch shape.order {
        case .packed:
            let block = Self.ownOutputs * ExpandedMatrix.padded(shape.K, ExpandedMatrix.termMultiple(compute))
            lora_packed_product(
                y, shape.yStride, x, shape.xStride, w, block, shape.M, shape.N, shape.K, accumulates)
        case .outputRows(let stride), .termRows(let stride):
            let transposition = if case .outputRows = shape.order { CblasTrans } else { CblasNoTrans }
            cblas_sgemm(
                CblasRowMajor, CblasNoTrans, transposition, blasint(shape.M), blasint(shape.N), blasint(shape.K), 1, x,
                blasint(shape.xStride), w, blasint(stride), Float(accumulates), y, blasint(shape.yStride))
        }
    }

    // MARK: Few rows

    /// What the rows of x are for the stored blocks of a matrix.
    private enum Operands {
        case integers
        case halves
        case floats
    }

    /// Matrices of whole numbers meet whole numbers, which are faster and more exact than bf16, and faster than f32.
    /// K-quants, whose scales are many, take bf16 where they can. Where a pass of many rows ends with a few, those may have
    /// the precision of f32 for little.
    private func operands(_ W: FrozenMatrix) -> Operands {
        guard readsStored else { return .floats }
        if lora_multiplies_int16(W.kernelType) != 0, !(multipliesHalves && W.type.blockSize == 256) { return .integers }
        return multipliesHalves ? .halves : .floats
    }

    /// Rows from which on it pays to share them between threads.
    static let sharedRows = 4

    /// y (M, N), rows `stride` apart, overwritten or added to: x (M, K) in f32 times the stored blocks of W (N, K), by
    /// all threads.
    /// - Parameter next: what is multiplied next, whose beginning each thread fetches while it ends.
    func forwardDirectly(
        _ y: UnsafeMutablePointer<Float>, stride: Int, _ x: UnsafePointer<Float>, rows M: Int, _ W: StackedMatrix,
        next: StackedMatrix? = nil, accumulate: Bool = false
    ) {
        let (rounded, integers) = (halves(scratch[0]), scratch[0] + Self.scratchCount * 2)
        let holds = { (bytes: Int) in
            precondition(bytes <= Self.scratchCount * 2, "\(M) × \(W.columns) operands of a direct product")
        }
        if W.parts.contains(where: { operands($0) == .halves }) {
            holds(lora_grouped_rows_count(M, W.columns) * 2)
            lora_group_rows_bf16(rounded, x, M, W.columns)
        }
        if W.parts.contains(where: { operands($0) == .integers }) {
            holds(lora_int16_rows_size(M, W.columns))
            let blocks = W.columns / 32
            if M < Self.sharedRows {
                lora_round_rows_int16(integers, x, M, W.columns, 0, blocks)
            } else {
                pool.forEachRange(of: blocks) { range, _ in
                    lora_round_rows_int16(integers, x, M, W.columns, range.lowerBound, range.count)
                }
            }
        }
        pool.forEachRange(of: W.rows, multiple: 16) { share, thread in
            let following = next.flatMap { firstBytes(of: $0, thread: thread) }
            W.forEachPart(in: share) { part, rows, at in
                let (out, weights) = (y + share.lowerBound + at, part.bytes + rows.lowerBound * part.rowBytes)
                let (type, N, K, adds) = (part.kernelType, rows.count, W.columns, Int32(accumulate ? 1 : 0))
                let end = share.lowerBound + at + rows.count
                let next = end < share.upperBound ? W.bytes(row: end) : following
                let status =
                    switch operands(part) {
                    case .integers:
                        lora_quantized_product_int16(out, stride, integers, weights, type, M, N, K, adds, next)
                    case .halves: lora_quantized_product_bf16(out, stride, rounded, weights, type, M, N, K, adds, next)
                    case .floats: lora_quantized_product(out, stride, x, weights, type, M, N, K, adds)
                    }
                precondition(status == 0, "no kernel multiplies \(part.type)")
            }
        }
    }

    /// The beginning of what `thread` reads of W in a direct product; nil where it has no share.
    private func firstBytes(of W: StackedMatrix, thread: Int) -> UnsafeRawPointer? {
        let share = pool.range(of: W.rows, multiple: 16, thread: thread)
        return share.isEmpty ? nil : W.bytes(row: share.lowerBound)
    }
}
