import CKernels

/// Attention of new rows to the cached keys and values of their own sequence.
struct CachedAttention {
    let configuration: ModelConfiguration
    let pool: ThreadPool
    let activations: Activations

    private static let queryBlock = 64

    /// Consecutive rows of a pass that continue one sequence.
    struct Sequence {
        let cache: KeyValueCache
        /// First row in the pass.
        let start: Int
        let count: Int
    }

    private struct Task {
        let sequence: Sequence
        let first: Int
        let count: Int
        let head: Int
    }

    /// Appends the rows' keys and values to their caches (not yet counted there) and writes `activations.attention`.
    func forward(_ block: Int, sequences: [Sequence]) {
        append(block, sequences: sequences)
        let tasks = sequences.flatMap { sequence in
            stride(from: 0, to: sequence.count, by: Self.queryBlock).flatMap { first in
                (0..<configuration.headCount).map { head in
                    let count = min(Self.queryBlock, sequence.count - first)
                    return Task(sequence: sequence, first: first, count: count, head: head)
                }
            }
        }
        pool.forEachTask(tasks.count) { index, _ in attend(block, tasks[index]) }
    }

    private func append(_ block: Int, sequences: [Sequence]) {
        let (Q, KV) = (configuration.querySize, configuration.keyValueSize)
        let buffer = activations.queryKeyValue
        for sequence in sequences {
            for row in 0..<sequence.count {
                let source = buffer.values() + (sequence.start + row) * buffer.width + Q
                sequence.cache.row(block: block, position: sequence.cache.count + row).update(
                    from: source, count: 2 * KV)
            }
        }
    }

    private func attend(_ block: Int, _ task: Task) {
        let (input, output, D) = (activations.queryKeyValue, activations.attention, configuration.headSize)
        let row = task.sequence.start + task.first
        let first = task.sequence.cache.count + task.first
        let end = first + task.count
        let keyValueHead = task.head / (configuration.headCount / configuration.keyValueHeadCount)
        let cache = task.sequence.cache
        withUnsafeTemporaryAllocation(of: lora_key_span.self, capacity: cache.spanCount(upTo: end)) { spans in
            cache.fill(spans, block: block, column: keyValueHead * D, upTo: end)
            guard let spans = spans.baseAddress else { return }
            lora_attention_forward(
                output.values() + row * output.width + task.head * D, output.width,
                activations.logsumexp(block, head: task.head) + row,
                input.values() + row * input.width + task.head * D, input.width, spans, cache.spanCount(upTo: end),
                cache.stride, first, task.count, D, 1 / Float(D).squareRoot())
        }
    }
}
