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
    private static let least = 1e-2

    init(_ pair: LowRankPair, _ adapter: AdapterParameters, _ base: BaseModel) {
        self.pair = pair
        self.adapter = adapter
        W = base.matrix(pair.target, block: pair.block)
        squares = base.rowSquares.of(pair.target, block: pair.block, base)
    }

    /// Floats that `write` needs for a pair of up to that rank and so many inputs.
    static func scratchCount(rank: Int, inputs: Int) -> Int {
        rank * rank + integersCount(rank, inputs) + 2 * group * rank
    }

    /// A's rows as whole numbers, in floats' room.
    private static func integersCount(_ rank: Int, _ inputs: Int) -> Int {
        (lora_int16_rows_size(rank, inputs) + 3) / 4
    }

    /// norms (out) overwritten.
    func write(_ norms: UnsafeMutablePointer<Float>, scratch: UnsafeMutablePointer<Float>) {
        let (A, r, K) = (adapter.matrixA(pair), pair.rank, pair.inputs)
        let (gram, integers) = (scratch, scratch + r * r)
        let others = integers + Self.integersCount(r, K)
        lora_lowrank_down(gram, A, K, A, r, K, r)
        if multipliesIntegers { lora_round_rows_int16(integers, A, r, K, 0, K / 32) }
        for lower in stride(from: 0, to: pair.outputs, by: Self.group) {
            let rows = lower..<min(lower + Self.group, pair.outputs)
            write(norms, rows: rows, gram: gram, integers: integers, scratch: others)
        }
    }

    /// Whole numbers are nearly as exact as f32, and faster.
    private var multipliesIntegers: Bool { lora_multiplies_int16(W.kernelType) != 0 }

    private func write(
        _ norms: UnsafeMutablePointer<Float>, rows: Range<Int>, gram: UnsafePointer<Float>, integers: UnsafeRawPointer,
        scratch: UnsafeMutablePointer<Float>
    ) {
        let (B, r, s) = (adapter.matrixB(pair) + rows.lowerBound * pair.rank, pair.rank, Double(pair.scale))
        let (across, within) = (scratch, scratch + Self.group * r)  // (r, rows): A w, (rows, r): A Aᵀ b
        let (weights, type, N, K) = (W.bytes + rows.lowerBound * W.rowBytes, W.kernelType, rows.count, pair.inputs)
        let following = rows.upperBound < pair.outputs ? weights + N * W.rowBytes : nil
        let status =
            multipliesIntegers
            ? lora_quantized_product_int16(across, N, integers, weights, type, r, N, K, 0, following)
            : lora_quantized_product(across, N, adapter.matrixA(pair), weights, type, r, N, K, 0)
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
