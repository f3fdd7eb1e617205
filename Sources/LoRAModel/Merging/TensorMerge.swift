import CKernels
import LoRAFormats

/// The merge of one tensor, a run of rows at a time.
struct TensorMerge {
    let tensor: GGUFTensor
    let old: FrozenMatrix
    /// What the tensor becomes.
    let type: GGUFTensorType
    let delta: TensorDelta
    let pool: ThreadPool

    /// Elements of a run of rows: some MB in each buffer, whatever the matrix.
    private static let chunkElements = 1 << 20

    static func chunkRows(_ matrix: FrozenMatrix) -> Int {
        max(1, min(matrix.rows, chunkElements / matrix.columns))
    }

    /// Hands over the bytes of W + Δ, rounded once, in order.
    /// - Returns: how much of the delta got through.
    /// - Throws: `FormatError` when a value does not fit the type, and what `sink` throws.
    func run(
        _ sink: (_ rows: Range<Int>, _ bytes: UnsafeRawBufferPointer) throws -> Void
    ) throws -> RoundingMoments {
        let chunkRows = Self.chunkRows(old)
        let (columns, count) = (old.columns, chunkRows * old.columns)
        let buffers = MergeBuffers(counts: [count, count, count, count * delta.scratchCount])
        let rowBytes = columns / type.blockSize * type.blockBytes
        let stored = UnsafeMutableRawBufferPointer.allocate(byteCount: chunkRows * rowBytes, alignment: 64)
        defer { stored.deallocate() }
        var total = RoundingMoments()
        for start in stride(from: 0, to: old.rows, by: chunkRows) {
            let rows = start..<min(start + chunkRows, old.rows)
            total.add(chunk(rows, buffers, stored))
            guard total.isFinite else {
                throw FormatError("tensor \(tensor.name): merged values are not finite or too large for \(type.name)")
            }
            try sink(rows, UnsafeRawBufferPointer(rebasing: stored[..<(rows.count * rowBytes)]))
        }
        return total
    }

    private func chunk(
        _ rows: Range<Int>, _ buffers: MergeBuffers, _ stored: UnsafeMutableRawBufferPointer
    ) -> RoundingMoments {
        var moments = [RoundingMoments](repeating: RoundingMoments(), count: pool.count)
        moments.withUnsafeMutableBufferPointer { moments in
            // Each thread writes its own element only.
            nonisolated(unsafe) let moments = moments
            pool.forEachRange(of: rows.count) { share, thread in
                moments[thread] = self.share(share, of: rows, buffers, stored)
            }
        }
        return moments.reduce(into: RoundingMoments()) { $0.add($1) }
    }

    /// Merges and rounds the rows of one thread.
    private func share(
        _ share: Range<Int>, of rows: Range<Int>, _ buffers: MergeBuffers, _ stored: UnsafeMutableRawBufferPointer
    ) -> RoundingMoments {
        let (columns, count) = (old.columns, share.count * old.columns)
        let first = share.lowerBound * columns
        let (base, change, merged) = (buffers[0] + first, buffers[1] + first, buffers[2] + first)
        let range = rows.lowerBound + share.lowerBound..<rows.lowerBound + share.upperBound
        for (index, row) in range.enumerated() { old.expand(base + index * columns, row: row) }
        delta.compute(change, rows: range, base: base, scratch: buffers[3] + first * delta.scratchCount)
        merged.update(from: base, count: count)
        lora_add(merged, change, count)

        let kernelType = lora_type(type.rawValue)
        guard let start = stored.baseAddress else { return RoundingMoments() }
        let blocks = start + share.lowerBound * (columns / type.blockSize * type.blockBytes)
        let previous = type == old.type ? old.bytes + range.lowerBound * old.rowBytes : nil
        var status = lora_quantize(blocks, merged, previous, kernelType, count)
        if let previous { status += lora_keep_unchanged(blocks, previous, change, kernelType, count) }
        status += lora_dequantize(merged, blocks, kernelType, count)
        precondition(status == 0, "no kernel makes \(count) elements of \(type)")
        var moments = RoundingMoments()
        moments.measure(delta: change, before: base, after: merged, count: count)
        return moments
    }
}

/// How a wanted change Δ and the change Δ′ that was stored compare.
struct RoundingMoments: Sendable {
    /// ⟨Δ, Δ⟩, ⟨Δ, Δ′⟩, ⟨Δ′ − Δ, Δ′ − Δ⟩.
    private(set) var wanted = 0.0, common = 0.0, missed = 0.0

    var isFinite: Bool { (wanted + common + missed).isFinite }
    /// ⟨Δ, Δ′⟩ / ⟨Δ, Δ⟩.
    var survivingShare: Double { wanted > 0 ? common / wanted : 1 }
    /// ‖Δ′ − Δ‖ / ‖Δ‖.
    var relativeError: Double { wanted > 0 ? (missed / wanted).squareRoot() : 0 }

    mutating func add(_ other: RoundingMoments) {
        wanted += other.wanted
        common += other.common
        missed += other.missed
    }

    mutating func measure(
        delta: UnsafePointer<Float>, before: UnsafePointer<Float>, after: UnsafePointer<Float>, count: Int
    ) {
        var sums = [0.0, 0.0, 0.0]
        lora_rounding_moments(&sums, delta, before, after, count)
        (wanted, common, missed) = (sums[0], sums[1], sums[2])
    }
}
