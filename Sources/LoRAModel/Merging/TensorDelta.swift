import CKernels

/// The change that a merge makes to one weight: the deltas of all adapters that have one for it, put together by the
/// merge's method, for any rows.
struct TensorDelta {
    struct Part {
        let delta: ModuleDelta
        let weight: Float
        /// TIES keeps what reaches this.
        var threshold: Float = 0
        /// DARE's random numbers for this adapter and tensor.
        var seed: UInt64 = 0
    }

    let method: MergeMethod
    private(set) var parts: [Part]
    let rows: Int
    let columns: Int

    /// Deltas that `compute` needs memory for beside its result.
    var scratchCount: Int {
        switch method {
        case .linear: 0
        case .ties: parts.count
        case .dare: 1
        }
    }

    /// - Parameter baseRows: expands rows of W.
    init(
        method: MergeMethod, parts: [Part], pool: ThreadPool, chunkRows: Int,
        baseRows: @escaping (UnsafeMutablePointer<Float>, Range<Int>) -> Void
    ) {
        precondition(!parts.isEmpty, "a delta of \(parts.count) adapters")
        self.method = method
        self.parts = parts
        rows = parts[0].delta.pair.outputs
        columns = parts[0].delta.pair.inputs
        guard case .ties(let density) = method, density < 1 else { return }
        for index in parts.indices {
            var search = MagnitudeSearch(
                delta: parts[index].delta, pool: pool, chunkRows: chunkRows, baseRows: baseRows)
            self.parts[index].threshold = search.threshold(keeping: Int(density * Double(rows * columns)))
        }
    }

    /// out (range.count, columns) overwritten with the change of those rows.
    /// - Parameters:
    ///   - base: W[range] (range.count, columns).
    ///   - scratch: (scratchCount, range.count · columns).
    func compute(
        _ out: UnsafeMutablePointer<Float>, rows range: Range<Int>, base: UnsafePointer<Float>,
        scratch: UnsafeMutablePointer<Float>
    ) {
        let count = range.count * columns
        out.update(repeating: 0, count: count)
        switch method {
        case .linear:
            for part in parts { part.delta.add(to: out, rows: range, times: part.weight, base: base) }
        case .dare(let density, _):
            for part in parts {
                scratch.update(repeating: 0, count: count)
                part.delta.add(to: scratch, rows: range, times: part.weight, base: base)
                // What a gradient passes through dropout is what a delta passes through DARE.
                lora_dropout_backward(
                    out, scratch, Float(1 - density), part.seed, UInt64(range.lowerBound * columns), count)
            }
        case .ties:
            for (index, part) in parts.enumerated() {
                let own = scratch + index * count
                own.update(repeating: 0, count: count)
                part.delta.add(to: own, rows: range, times: 1, base: base)
                lora_trim(own, part.threshold, count)
            }
            lora_elect(out, scratch, count, parts.map(\.weight), parts.count, count)
        }
    }
}

/// Finds the k-th largest magnitude of a delta without holding it: two passes over its bits, computed anew for each.
private struct MagnitudeSearch {
    let delta: ModuleDelta
    let pool: ThreadPool
    let chunkRows: Int
    let baseRows: (UnsafeMutablePointer<Float>, Range<Int>) -> Void

    private static let bins = 1 << 16

    /// The magnitude that exactly `count` values reach, or more where several equal it; infinite for none.
    mutating func threshold(keeping count: Int) -> Float {
        guard count > 0 else { return .infinity }
        let (upper, above) = bin(of: count, in: histogram(prefix: -1))
        let (lower, _) = bin(of: count - above, in: histogram(prefix: Int32(upper)))
        return Float(bitPattern: UInt32(upper << 16 | lower))
    }

    /// The bin that the `count`-th value from above falls into, and how many values lie above that bin.
    private func bin(of count: Int, in counts: [UInt64]) -> (bin: Int, above: Int) {
        var above = 0
        for bin in stride(from: counts.count - 1, through: 0, by: -1) {
            if above + Int(counts[bin]) >= count { return (bin, above) }
            above += Int(counts[bin])
        }
        return (0, above)
    }

    private func histogram(prefix: Int32) -> [UInt64] {
        let (rows, columns) = (delta.pair.outputs, delta.pair.inputs)
        let buffers = MergeBuffers(counts: [chunkRows * columns, chunkRows * columns])
        let counts = UnsafeMutablePointer<UInt64>.allocate(capacity: pool.count * Self.bins)
        counts.initialize(repeating: 0, count: pool.count * Self.bins)
        defer { counts.deallocate() }
        for start in stride(from: 0, to: rows, by: chunkRows) {
            pool.forEachRange(of: min(chunkRows, rows - start)) { share, thread in
                let range = start + share.lowerBound..<start + share.upperBound
                let (base, out) = (buffers[0] + share.lowerBound * columns, buffers[1] + share.lowerBound * columns)
                baseRows(base, range)
                out.update(repeating: 0, count: range.count * columns)
                delta.add(to: out, rows: range, times: 1, base: base)
                lora_count_magnitudes(counts + thread * Self.bins, out, range.count * columns, prefix)
            }
        }
        return (0..<Self.bins).map { bin in (0..<pool.count).reduce(0) { $0 + counts[$1 * Self.bins + bin] } }
    }
}

/// Memory for a few runs of floats.
final class MergeBuffers {
    private let pointers: [UnsafeMutablePointer<Float>]

    init(counts: [Int]) {
        pointers = counts.map { count in
            let pointer = UnsafeMutablePointer<Float>.allocate(capacity: max(count, 1))
            pointer.initialize(repeating: 0, count: max(count, 1))
            return pointer
        }
    }

    deinit { for pointer in pointers { pointer.deallocate() } }

    subscript(index: Int) -> UnsafeMutablePointer<Float> { pointers[index] }
}
