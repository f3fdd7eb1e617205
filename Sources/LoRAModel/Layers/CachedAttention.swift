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
        let keyValueHead: Int
        /// Query heads of the key/value head.
        let heads: Range<Int>
    }

    /// Appends the rows' keys and values to their caches (not yet counted there) and writes `activations.attention`.
    func forward(_ block: Int, sequences: [Sequence]) {
        append(block, sequences: sequences)
        let (K, share) = (configuration.keyValueHeadCount, configuration.headCount / configuration.keyValueHeadCount)
        var tasks: [Task] = []
        for sequence in sequences {
            for first in stride(from: 0, to: sequence.count, by: Self.queryBlock) {
                let count = min(Self.queryBlock, sequence.count - first)
                for keyValueHead in 0..<K {
                    let heads = keyValueHead * share..<(keyValueHead + 1) * share
                    // The heads of one row share the keys; of more rows, each head has enough to do.
                    for part in count == 1 ? [heads] : heads.map({ $0..<$0 + 1 }) {
                        tasks.append(
                            Task(
                                sequence: sequence, first: first, count: count, keyValueHead: keyValueHead, heads: part)
                        )
                    }
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
        let (cache, end, scale) = (task.sequence.cache, first + task.count, 1 / Float(D).squareRoot())
        let spanCount = cache.spanCount(upTo: end)
        let out = output.values() + row * output.width + task.heads.lowerBound * D
        let queries = input.values() + row * input.width + task.heads.lowerBound * D
        withUnsafeTemporaryAllocation(of: lora_key_span.self, capacity: spanCount) { buffer in
            cache.fill(buffer, block: block, column: task.keyValueHead * D, upTo: end)
            guard let spans = buffer.baseAddress else { return }
            withUnsafeTemporaryAllocation(of: Float.self, capacity: max(task.count, task.heads.count)) { logsumexp in
                guard let logsumexp = logsumexp.baseAddress else { return }
                if task.count == 1 {
                    lora_attention_decode(
                        out, logsumexp, queries, spans, spanCount, cache.stride, first, task.heads.count, D, scale)
                } else {
                    lora_attention_forward(
                        out, output.width, logsumexp, queries, input.width, spans, spanCount, cache.stride, first,
                        task.count, D, scale)
                }
            }
        }
    }
}
