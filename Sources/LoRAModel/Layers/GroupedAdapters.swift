import CKernels

/// The adapters of an inference pass: each group of consecutive rows has its own, or none.
final class GroupedAdapters: LowRankPlan {
    struct Group {
        let rows: Range<Int>
        let adapter: AdapterParameters
    }

    /// Ascending and apart.
    private var groups: [Group] = []
    private var largestRank = 0
    private let rows: Int
    private var scratch: UnsafeMutablePointer<Float>?  // (rows, largest rank)
    private var scratchRank = 0

    /// - Parameter rows: capacity of the pass.
    init(rows: Int) { self.rows = rows }

    deinit { scratch?.deallocate() }

    func set(_ groups: [Group]) {
        precondition(
            groups.allSatisfy { $0.adapter.layout.rowFactors != .magnitudes },
            "an adapter's magnitudes are not resolved")
        self.groups = groups
        largestRank = groups.reduce(0) { max($0, $1.adapter.layout.largestRank) }
        guard largestRank > scratchRank else { return }
        scratch?.deallocate()
        scratch = .allocate(capacity: rows * largestRank)
        scratchRank = largestRank
    }

    func prepare(_ block: Int) {}

    func readsValues(_ target: TargetModule, _ block: Int) -> Bool { !groups.isEmpty }

    func add(
        _ target: TargetModule, _ block: Int, _ y: UnsafeMutablePointer<Float>, _ yStride: Int,
        onto: UnsafePointer<Float>?, _ x: ActivationRows, _ rows: Range<Int>, thread: Int
    ) {
        guard let scratch else { return }
        for group in groups where group.rows.overlaps(rows) {
            guard let pair = group.adapter.layout.pair(block: block, target) else { continue }
            let part = group.rows.clamped(to: rows)
            let skipped = part.lowerBound - rows.lowerBound
            if pair.rowFactors == .gains {
                lora_dora_scale(
                    y + skipped * yStride, yStride, onto.map { $0 + skipped * pair.outputs },
                    group.adapter.rowFactors(pair), part.count, pair.outputs)
            }
            // Giving each row the largest rank keeps threads apart.
            LowRankBranch(pair: pair, adapter: group.adapter).forward(
                y + skipped * yStride, yStride: yStride, h: scratch + part.lowerBound * scratchRank,
                x.values + skipped * pair.inputs, rows: part)
        }
    }
}
