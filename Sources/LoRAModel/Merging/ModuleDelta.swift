/// What one adapter adds to the weight W of one projection. This is the one place that says what that is; everything
/// else of a merge only adds, picks and rounds deltas.
struct ModuleDelta {
    /// Without magnitudes: see `AdapterParameters.resolved`.
    let adapter: AdapterParameters
    let pair: LowRankPair

    /// out (rows.count, in) ADDS factor · s · B[rows] · A (arXiv 2106.09685), or what a DoRA adapter adds to those rows.
    /// - Parameter base: W[rows] (rows.count, in), on which the delta of a DoRA adapter depends.
    func add(
        to out: UnsafeMutablePointer<Float>, rows: Range<Int>, times factor: Float, base: UnsafePointer<Float>
    ) {
        adapter.addChange(of: pair, to: out, base: base, rows: rows, weight: factor)
    }
}
