import CKernels

/// Causal attention inside the segments of a packed batch, whose keys and values are rows of the same buffer as the
/// queries. Never a (T, T) buffer: the kernels go tile by tile (arXiv 2205.14135).
struct SegmentAttention {
    let configuration: ModelConfiguration
    let pool: ThreadPool
    let activations: Activations

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
        let slot = activations.slot(block)
        let (input, output) = (activations.queryKeyValue, activations.attention)
        let (D, group) = (configuration.headSize, configuration.headCount / configuration.keyValueHeadCount)
        pool.forEachTask(tasks.count) { index, _ in
            let task = tasks[index]
            let row = task.segment.start + task.first
            var span = keySpan(input.values(slot), segment: task.segment, keyValueHead: task.head / group)
            span.count = task.first + task.count
            lora_attention_forward(
                output.values(slot) + row * output.width + task.head * D, output.width,
                activations.logsumexp(block, head: task.head) + row,
                input.values(slot) + row * input.width + task.head * D, input.width, &span, 1, input.width, task.first,
                task.count, D, scale)
        }
    }

    /// Writes `gradient`, of `queryKeyValue`'s shape, from dAttention (T, H·D). Heads that share keys share a task, so
    /// that sums over them have one order.
    func backward(
        _ block: Int, _ gradient: ActivationBuffer, _ dAttention: UnsafePointer<Float>,
        segments: [PackedBatch.Segment]
    ) {
        let K = configuration.keyValueHeadCount
        let group = configuration.headCount / K
        pool.forEachTask(segments.count * K) { index, _ in
            let (segment, keyValueHead) = (segments[index / K], index % K)
            for head in keyValueHead * group..<(keyValueHead + 1) * group {
                backward(block, gradient, dAttention, segment: segment, head: head, keyValueHead: keyValueHead)
            }
        }
    }

    private func backward(
        _ block: Int, _ gradient: ActivationBuffer, _ dAttention: UnsafePointer<Float>, segment: PackedBatch.Segment,
        head: Int, keyValueHead: Int
    ) {
        let slot = activations.slot(block)
        let (input, output) = (activations.queryKeyValue, activations.attention)
        let D = configuration.headSize
        let (row, column) = (segment.start, head * D)
        var span = keySpan(input.values(slot), segment: segment, keyValueHead: keyValueHead)
        let gradients = keySpan(gradient.values(), segment: segment, keyValueHead: keyValueHead)
        span.dkeys = UnsafeMutablePointer(mutating: gradients.keys)
        span.dvalues = UnsafeMutablePointer(mutating: gradients.values)
        lora_attention_backward(
            gradient.values() + row * gradient.width + column, dAttention + row * output.width + column,
            output.values(slot) + row * output.width + column, output.width,
            activations.logsumexp(block, head: head) + row, input.values(slot) + row * input.width + column,
            input.width, &span, 1, input.width, 0, segment.count, D, scale)
    }

    private func keySpan(
        _ rows: UnsafeMutablePointer<Float>, segment: PackedBatch.Segment, keyValueHead: Int
    ) -> lora_key_span {
        let (Q, KV) = (configuration.querySize, configuration.keyValueSize)
        let keys = rows + segment.start * (Q + 2 * KV) + Q + keyValueHead * configuration.headSize
        return lora_key_span(keys: keys, values: keys + KV, dkeys: nil, dvalues: nil, count: segment.count)
    }
}
