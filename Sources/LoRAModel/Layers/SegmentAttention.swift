import CKernels

/// Causal attention inside the segments of a packed batch, whose keys and values are rows of the same buffer as the
/// queries. Never a (T, T) buffer: the kernels go tile by tile (arXiv 2205.14135).
struct SegmentAttention {
    let configuration: ModelConfiguration
    let pool: ThreadPool
    let activations: Activations
    /// Gradients of a shared prefix's keys and values, by group of segments: (groups, T, (H+2K)·D).
    private let dPrefix: UnsafeMutablePointer<Float>

    /// Groups of segments that sum into a shared prefix apart from each other.
    private static let prefixGroups = 4

    init(arena: Arena, configuration: ModelConfiguration, pool: ThreadPool, activations: Activations) {
        self.configuration = configuration
        self.pool = pool
        self.activations = activations
        dPrefix = arena.allocate(Self.prefixGroups * activations.rows * activations.queryKeyValue.width)
    }

    static func size(configuration: ModelConfiguration, rows: Int) -> Int {
        let width = configuration.querySize + 2 * configuration.keyValueSize
        return Arena.size(of: Float.self, count: prefixGroups * rows * width)
    }

    /// Queries that one task takes: long segments are shared between threads.
    private static let queryBlock = 256

    private var scale: Float { 1 / Float(configuration.headSize).squareRoot() }

    /// A part of a segment's queries under one head.
    struct Task {
        let segment: PackedBatch.Segment
        /// First query, counted in the segment.
        let first: Int
        let count: Int
        let head: Int
    }

    /// The forward tasks of `segments`, longest first where it matters.
    static func tasks(_ segments: [PackedBatch.Segment], heads: Int) -> [Task] {
        segments.flatMap { segment in
            stride(from: 0, to: segment.count, by: queryBlock).reversed().flatMap { first in
                (0..<heads).map { head in
                    Task(segment: segment, first: first, count: min(queryBlock, segment.count - first), head: head)
                }
            }
        }
    }

    /// Writes `activations.attention` and the log-sum-exps from the rotated queries, keys and values of `block`.
    func forward(_ block: Int, tasks: [Task]) {
        let (slot, outputSlot) = (activations.slot(block), activations.attentionSlot(block))
        let (input, output) = (activations.queryKeyValue, activations.attention)
        let (D, group) = (configuration.headSize, configuration.headCount / configuration.keyValueHeadCount)
        pool.forEachTask(tasks.count) { index, _ in
            let task = tasks[index]
            let row = task.segment.start + task.first
            let visible = task.first + task.count
            withSpans(input.values(slot), task.segment, rows: visible, task.head / group) {
                lora_attention_forward(
                    output.values(outputSlot) + row * output.width + task.head * D, output.width,
                    activations.logsumexp(block, head: task.head) + row,
                    input.values(slot) + row * input.width + task.head * D, input.width, $0, $1, input.width,
                    task.segment.prefix + task.first, task.count, D, scale)
            }
        }
    }

    /// Writes `gradient`, of `queryKeyValue`'s shape, from dAttention (T, H·D). Heads that share keys share a task, so
    /// that sums over them have one order; sums into a shared prefix are made per group of segments, then joined.
    func backward(
        _ block: Int, _ gradient: ActivationBuffer, _ dAttention: UnsafePointer<Float>, _ batch: PackedBatch
    ) {
        let K = configuration.keyValueHeadCount
        let group = configuration.headCount / K
        let groups = Self.groups(batch)
        pool.forEachTask(groups.count * K) { index, _ in
            let (part, keyValueHead) = (index / K, index % K)
            for segment in batch.segments[groups[part]] {
                for head in keyValueHead * group..<(keyValueHead + 1) * group {
                    backward(
                        block, gradient, dAttention, segment, head: head, keyValueHead: keyValueHead,
                        dPrefix: dPrefix + part * activations.rows * gradient.width)
                }
            }
        }
        if batch.prefixCount > 0 { joinPrefix(gradient, rows: batch.prefixCount, groups: groups.count) }
    }

    /// Each segment by itself, or, when they share a prefix, a few groups of them.
    private static func groups(_ batch: PackedBatch) -> [Range<Int>] {
        let count = batch.segments.count
        if batch.prefixCount == 0 { return (0..<count).map { $0..<$0 + 1 } }
        return (0..<min(prefixGroups, count)).map { part in
            part * count / min(prefixGroups, count)..<(part + 1) * count / min(prefixGroups, count)
        }
    }

    /// Adds what the groups summed for the keys and values of the prefix, and empties their sums.
    private func joinPrefix(_ gradient: ActivationBuffer, rows: Int, groups: Int) {
        let (Q, KV, width) = (configuration.querySize, configuration.keyValueSize, gradient.width)
        pool.forEachRange(of: rows) { range, _ in
            for group in 0..<groups {
                for row in range {
                    let sums = dPrefix + (group * activations.rows + row) * width + Q
                    lora_add(gradient.values() + row * width + Q, sums, 2 * KV)
                    sums.update(repeating: 0, count: 2 * KV)
                }
            }
        }
    }

    private func backward(
        _ block: Int, _ gradient: ActivationBuffer, _ dAttention: UnsafePointer<Float>, _ segment: PackedBatch.Segment,
        head: Int, keyValueHead: Int, dPrefix: UnsafeMutablePointer<Float>
    ) {
        let (slot, outputSlot) = (activations.slot(block), activations.attentionSlot(block))
        let (input, output) = (activations.queryKeyValue, activations.attention)
        let D = configuration.headSize
        let (row, column) = (segment.start, head * D)
        let own = keyColumns(gradient.values() + row * gradient.width, keyValueHead)
        let shared = keyColumns(dPrefix, keyValueHead)
        withSpans(input.values(slot), segment, rows: segment.count, keyValueHead, gradients: (shared, own)) {
            lora_attention_backward(
                gradient.values() + row * gradient.width + column, dAttention + row * output.width + column,
                output.values(outputSlot) + row * output.width + column, output.width,
                activations.logsumexp(block, head: head) + row, input.values(slot) + row * input.width + column,
                input.width, $0, $1, input.width, segment.prefix, segment.count, D, scale)
        }
    }

    /// The first key of a head in a row of queries, keys and values; its value lies K·D further.
    private func keyColumns(_ row: UnsafeMutablePointer<Float>, _ keyValueHead: Int) -> UnsafeMutablePointer<Float> {
        row + configuration.querySize + keyValueHead * configuration.headSize
    }

    /// The keys that the first `rows` rows of a segment see: the prefix, if it shares it, and its own.
    private func withSpans(
        _ values: UnsafeMutablePointer<Float>, _ segment: PackedBatch.Segment, rows: Int, _ keyValueHead: Int,
        gradients: (prefix: UnsafeMutablePointer<Float>, own: UnsafeMutablePointer<Float>)? = nil,
        _ body: (UnsafePointer<lora_key_span>, Int) -> Void
    ) {
        let (KV, width) = (configuration.keyValueSize, configuration.querySize + 2 * configuration.keyValueSize)
        withUnsafeTemporaryAllocation(of: lora_key_span.self, capacity: 2) { spans in
            guard let first = spans.baseAddress else { return }
            var count = 0
            func add(_ keys: UnsafeMutablePointer<Float>, _ gradient: UnsafeMutablePointer<Float>?, rows: Int) {
                first[count] = lora_key_span(
                    keys: keys, values: keys + KV, dkeys: gradient, dvalues: gradient.map { $0 + KV }, count: rows)
                count += 1
            }
            if segment.prefix > 0 { add(keyColumns(values, keyValueHead), gradients?.prefix, rows: segment.prefix) }
            add(keyColumns(values + segment.start * width, keyValueHead), gradients?.own, rows: rows)
            body(first, count)
        }
    }
}
