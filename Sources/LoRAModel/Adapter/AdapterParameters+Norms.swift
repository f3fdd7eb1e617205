import CKernels

/// How far an adapter moves one projection of the base.
public struct ModuleChange: Sendable, Equatable {
    public let block: Int
    public let target: TargetModule
    /// Frobenius norm of W.
    public let baseNorm: Double
    /// Frobenius norm of what the adapter adds to W: s · B A, or a DoRA adapter's W' - W.
    public let changeNorm: Double

    /// ‖ΔW‖ / ‖W‖; 0 for a W of zeros.
    public var ratio: Double { baseNorm > 0 ? changeNorm / baseNorm : 0 }
}

extension AdapterParameters {
    /// The change of each projection that has a pair, in the order of the layout. Neither W nor ΔW ever exists as a
    /// whole; squares are summed in double precision, and the sums do not depend on the threads.
    public func changes(of base: BaseModel, pool: ThreadPool) -> [ModuleChange] {
        let adapter = resolved(for: base, pool: pool)
        var squares = [(base: Double, change: Double)](repeating: (0, 0), count: adapter.layout.pairs.count)
        squares.withUnsafeMutableBufferPointer { squares in
            pool.forEachTask(squares.count) { index, _ in
                squares[index] = adapter.squares(of: adapter.layout.pairs[index], base)
            }
        }
        return zip(adapter.layout.pairs, squares).map { pair, squares in
            ModuleChange(
                block: pair.block, target: pair.target, baseNorm: squares.base.squareRoot(),
                changeNorm: squares.change.squareRoot())
        }
    }

    /// Rows of W and of ΔW at a time.
    private static let changedRows = 16

    /// Sums of the squares of W and of ΔW, a few rows at a time.
    private func squares(of pair: LowRankPair, _ base: BaseModel) -> (base: Double, change: Double) {
        let (W, width) = (base.matrix(pair.target, block: pair.block), pair.inputs)
        let count = Self.changedRows * width
        var sums = (base: 0.0, change: 0.0)
        withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * count) { scratch in
            guard let rows = scratch.baseAddress else { return }
            let change = rows + count
            for lower in stride(from: 0, to: pair.outputs, by: Self.changedRows) {
                let range = lower..<min(lower + Self.changedRows, pair.outputs)
                for row in range { W.expand(rows + (row - lower) * width, row: row) }
                change.initialize(repeating: 0, count: count)
                addChange(of: pair, to: change, base: rows, rows: range, weight: 1)
                sums.base += lora_sum_of_squares(rows, range.count * width)
                sums.change += lora_sum_of_squares(change, range.count * width)
            }
        }
        return sums
    }
}
