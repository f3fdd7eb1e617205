import CKernels

/// Euclidean norms of the rows of W + s · B A, which need no such row: with w a row of W and b one of B,
/// |w + s · Aᵀ b|² = |w|² + s · b · (2 · A w + s · A Aᵀ b).
///
/// |w|² is the base's alone and is computed once for all adapters; A w comes from W's stored blocks.
struct AdaptedNorms {
    private let pair: LowRankPair
    private let adapter: AdapterParameters
    private let W: FrozenMatrix
    private let squares: [Double]  // (out): |w|²

    /// Rows at a time.
    private static let group = 64
    /// What is left of |w|² where rounding of the other terms would show: such a row is made after all.
    private static let least = 1e-3

    init(_ pair: LowRankPair, _ adapter: AdapterParameters, _ base: BaseModel, pool: ThreadPool?) {
        self.pair = pair
        self.adapter = adapter
        W = base.matrix(pair.target, block: pair.block)
        squares = base.rowSquares.of(pair.target, block: pair.block, base, pool: pool)
    }

    /// Floats that `write` needs for all threads together.
    static func scratchCount(rank: Int, threads: Int) -> Int { rank * rank + threads * 2 * group * rank }

    /// norms (out) overwritten, with all threads of `pool`, or the calling one alone.
    func write(_ norms: UnsafeMutablePointer<Float>, scratch: UnsafeMutablePointer<Float>, pool: ThreadPool?) {
        let (A, r, K) = (adapter.matrixA(pair), pair.rank, pair.inputs)
        let (gram, others) = (scratch, scratch + r * r)
        ThreadPool.share(r, by: pool) { rows, _ in
            lora_lowrank_down(gram + rows.lowerBound * r, A + rows.lowerBound * K, K, A, rows.count, K, r)
        }
        ThreadPool.share(pair.outputs, by: pool) { rows, thread in
            let scratch = others + thread * 2 * Self.group * r
            for lower in stride(from: rows.lowerBound, to: rows.upperBound, by: Self.group) {
                let group = lower..<min(lower + Self.group, rows.upperBound)
                write(norms, rows: group, gram: gram, scratch: scratch)
            }
        }
    }

    private func write(
        _ norms: UnsafeMutablePointer<Float>, rows: Range<Int>, gram: UnsafePointer<Float>,
        scratch: UnsafeMutablePointer<Float>
    ) {
        let (B, r, s) = (adapter.matrixB(pair) + rows.lowerBound * pair.rank, pair.rank, Double(pair.scale))
        let (across, within) = (scratch, scratch + Self.group * r)  // (r, rows): A w, (rows, r): A Aᵀ b
        let status = lora_quantized_product(
            across, rows.count, adapter.matrixA(pair), W.bytes + rows.lowerBound * W.rowBytes, W.kernelType, r,
            rows.count, pair.inputs, 0)
        precondition(status == 0, "no kernel multiplies \(W.type)")
        lora_lowrank_down(within, B, r, gram, rows.count, r, r)
        for (index, row) in rows.enumerated() {
            var change = 0.0
            for j in 0..<r {
                let sum = 2 * Double(across[j * rows.count + index]) + s * Double(within[index * r + j])
                change += Double(B[index * r + j]) * sum
            }
            let square = squares[row] + s * change
            norms[row] = square > Self.least * squares[row] ? Float(square.squareRoot()) : norm(ofRow: row)
        }
    }

    /// Of a row that is made.
    private func norm(ofRow row: Int) -> Float {
        withUnsafeTemporaryAllocation(of: Float.self, capacity: pair.inputs + pair.rank) { scratch in
            guard let values = scratch.baseAddress else { return 0 }
            let scaled = values + pair.inputs
            W.expand(values, row: row)
            lora_scaled_f32(scaled, adapter.matrixB(pair) + row * pair.rank, pair.scale, pair.rank)
            lora_lowrank_down_backward_input(
                values, pair.inputs, scaled, adapter.matrixA(pair), 1, pair.inputs, pair.rank)
            return Float(lora_sum_of_squares(values, pair.inputs).squareRoot())
        }
    }
}
