import CKernels

/// The adapters of an inference pass: each group of consecutive rows has its own, or none.
final class GroupedAdapters: LowRankPlan {
    struct Group {
        let rows: Range<Int>
        let adapter: PackedAdapter
    }

    /// Ascending and apart.
    private var groups: [Group] = []
    /// Indices of groups that one thread takes through a projection: those of one adapter, which then reads it once.
    private var tasks: [[Int]] = []
    private let rows: Int
    private var scratch: UnsafeMutablePointer<Float>?  // (rows, largest rank)
    private var scratchRank = 0

    /// - Parameter rows: capacity of the pass.
    init(rows: Int) { self.rows = rows }

    deinit { scratch?.deallocate() }

    func set(_ groups: [Group]) {
        self.groups = groups
        tasks = Self.tasks(groups)
        let largestRank = groups.reduce(0) { max($0, $1.adapter.layout.largestRank) }
        guard largestRank > scratchRank else { return }
        scratch?.deallocate()
        scratch = .allocate(capacity: rows * largestRank)
        scratchRank = largestRank
    }

    /// Groups of one adapter, up to some rows: then another thread may read the adapter as well.
    private static func tasks(_ groups: [Group]) -> [[Int]] {
        var tasks: [[Int]] = []
        var open: [ObjectIdentifier: (task: Int, rows: Int)] = [:]
        for (index, group) in groups.enumerated() {
            let adapter = ObjectIdentifier(group.adapter)
            if let (task, rows) = open[adapter], rows + group.rows.count <= rowsPerTask {
                tasks[task].append(index)
                open[adapter] = (task, rows + group.rows.count)
            } else {
                open[adapter] = (tasks.count, group.rows.count)
                tasks.append([index])
            }
        }
        return tasks
    }

    private static let rowsPerTask = 8

    func prepare(_ block: Int) {}

    func addTogether(
        _ targets: [TargetModule], _ block: Int, _ y: UnsafeMutablePointer<Float>, _ yStride: Int,
        onto: UnsafePointer<Float>?, _ x: ActivationRows, _ rows: Range<Int>,
        configuration: ModelConfiguration, pool: ThreadPool
    ) {
        let exists = groups.contains { group in
            targets.contains { group.adapter.branch(block: block, $0) != nil }
        }
        guard exists else { return }
        pool.forEachTask(tasks.count) { task, _ in
            for index in tasks[task] {
                var column = 0
                for target in targets {
                    add(groups[index], target, block, y + column, yStride, onto: onto, x, rows)
                    column += target.shape(in: configuration).outputs
                }
            }
        }
    }

    func readsValues(_ target: TargetModule, _ block: Int) -> Bool { !groups.isEmpty }

    func add(
        _ target: TargetModule, _ block: Int, _ y: UnsafeMutablePointer<Float>, _ yStride: Int,
        onto: UnsafePointer<Float>?, _ x: ActivationRows, _ rows: Range<Int>, thread: Int
    ) {
        for group in groups where group.rows.overlaps(rows) {
            add(group, target, block, y, yStride, onto: onto, x, rows)
        }
    }

    /// The branch of `target` for the rows of `group` among `rows`.
    private func add(
        _ group: Group, _ target: TargetModule, _ block: Int, _ y: UnsafeMutablePointer<Float>, _ yStride: Int,
        onto: UnsafePointer<Float>?, _ x: ActivationRows, _ rows: Range<Int>
    ) {
        guard let scratch, let branch = group.adapter.branch(block: block, target) else { return }
        let (pair, part) = (branch.pair, group.rows.clamped(to: rows))
        let skipped = part.lowerBound - rows.lowerBound
        if let gains = branch.gains {
            lora_dora_scale(
                y + skipped * yStride, yStride, onto.map { $0 + skipped * pair.outputs }, gains, part.count,
                pair.outputs)
        }
        // Giving each row the largest rank keeps threads apart.
        branch.forward(
            y + skipped * yStride, yStride: yStride, h: scratch + part.lowerBound * scratchRank,
            x.values + skipped * pair.inputs, rows: part.count)
    }
}
