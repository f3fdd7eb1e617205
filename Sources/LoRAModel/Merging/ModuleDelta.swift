import CKernels

/// What one adapter adds to the weight W of one projection. This is the one place that says what that is; everything
/// else of a merge only adds, picks and rounds deltas.
struct ModuleDelta {
    let adapter: AdapterParameters
    let pair: LowRankPair

    /// out (rows.count, in) ADDS factor · s · B[rows] · A (arXiv 2106.09685).
    /// - Parameter base: W[rows] (rows.count, in), for kinds of adapters whose delta depends on the weight.
    func add(
        to out: UnsafeMutablePointer<Float>, rows: Range<Int>, times factor: Float, base: UnsafePointer<Float>
    ) {
        let (r, C) = (pair.rank, pair.inputs)
        let B = adapter.matrixB(pair) + rows.lowerBound * r
        let scaled = [Float](unsafeUninitializedCapacity: rows.count * r) { buffer, count in
            for index in 0..<rows.count * r { buffer[index] = factor * pair.scale * B[index] }
            count = rows.count * r
        }
        lora_lowrank_down_backward_input(out, C, scaled, adapter.matrixA(pair), rows.count, C, r)
    }
}
