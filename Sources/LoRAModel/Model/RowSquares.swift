import CKernels
import Synchronization

/// Sums of the squares of each row of a base's matrices, in double precision; computed when they are first asked for.
final class RowSquares: Sendable {
    private let known = Mutex<[Int: [Double]]>([:])

    /// Of a projection's rows (out), with all threads of `pool`, or the calling one alone.
    func of(_ target: TargetModule, block: Int, _ base: BaseModel, pool: ThreadPool?) -> [Double] {
        let key = block * TargetModule.allCases.count + target.slot
        if let squares = known.withLock({ $0[key] }) { return squares }
        let squares = Self.squares(base.matrix(target, block: block), pool: pool)
        known.withLock { $0[key] = squares }
        return squares
    }

    private static func squares(_ W: FrozenMatrix, pool: ThreadPool?) -> [Double] {
        [Double](unsafeUninitializedCapacity: W.rows) { squares, count in
            count = W.rows
            guard let squares = squares.baseAddress else { return }
            ThreadPool.share(W.rows, by: pool) { rows, _ in
                withUnsafeTemporaryAllocation(of: Float.self, capacity: W.columns) { row in
                    guard let values = row.baseAddress else { return }
                    for row in rows {
                        W.expand(values, row: row)
                        squares[row] = lora_sum_of_squares(values, W.columns)
                    }
                }
            }
        }
    }
}
