import CKernels
import Synchronization

/// Sums of the squares of each row of a base's matrices, in double precision; computed when they are first asked for.
final class RowSquares: Sendable {
    private let known = Mutex<[Int: [Double]]>([:])

    /// Of a projection's rows (out).
    func of(_ target: TargetModule, block: Int, _ base: BaseModel) -> [Double] {
        let key = block * TargetModule.allCases.count + target.slot
        if let squares = known.withLock({ $0[key] }) { return squares }
        let squares = Self.squares(base.matrix(target, block: block))
        known.withLock { $0[key] = squares }
        return squares
    }

    private static func squares(_ W: FrozenMatrix) -> [Double] {
        withUnsafeTemporaryAllocation(of: Float.self, capacity: W.columns) { values in
            guard let values = values.baseAddress else { return [] }
            return (0..<W.rows).map { row in
                W.expand(values, row: row)
                return lora_sum_of_squares(values, W.columns)
            }
        }
    }
}
