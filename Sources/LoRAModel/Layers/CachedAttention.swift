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

    /// Consecutive rows of a sequence with query heads that share a key/value head.
    private struct Task {
        let sequence: Sequence
        let first: Int
        let count: Int
        let keyValueHead: Int
        let heads: Range<Int>

        /// In the pass.
        var row: Int { sequence.start + first }
        /// Of the first row.
        var position: Int { sequence.cache.count + first }
        /// Of keys that the rows see.
        var end: Int { position + count }
    }

    /// Appends the rows' keys and values to their caches (not yet counted there) and writes `activations.attention`, in
    /// bf16 where `activations.attendsInHalves`.
    func forward(_ block: Int, sequences: [Sequence]) {
        append(block, sequences)
        let tasks = tasks(sequences)
        pool.forEachTask(tasks.count) { index, _ in
            if activations.attendsInHalves {
                attendInHalves(block, tasks[index])
            } else {
                attend(block, tasks[index])
            }
        }
    }

    private func tasks(_ sequences: [Sequence]) -> [Task] {
        let (K, share) = (configuration.keyValueHeadCount, configuration.headCount / configuration.keyValueHeadCount)
        var tasks: [Task] = []
        for sequence in sequences {
            // The last queries see most keys: they go first, so that threads end together.
            for first in stride(from: 0, to: sequence.count, by: Self.queryBlock).reversed() {
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
        return tasks
    }

    private func append(_ block: Int, _ sequences: [Sequence]) {
        // What a thread writes is its own: whole sequences, or pages of one.
        if sequences.count >= pool.count {
            pool.forEachRange(of: sequences.count) { range, _ in
                for sequence in sequences[range] { append(block, sequence, 0..<sequence.count) }
            }
        } else {
            for sequence in sequences {
                guard sequence.count > KeyValueCache.pageLength else {
                    append(block, sequence, 0..<sequence.count)
                    continue
                }
                let start = sequence.cache.count % KeyValueCache.pageLength
                pool.forEachRange(of: start + sequence.count, multiple: KeyValueCache.pageLength) { range, _ in
                    append(block, sequence, max(range.lowerBound - start, 0)..<range.upperBound - start)
                }
            }
        }
    }

    private func append(_ block: Int, _ sequence: Sequence, _ rows: Range<Int>) {
        let (Q, KV) = (configuration.querySize, configuration.keyValueSize)
        let (input, slot, cache) = (activations.queryKeyValue, activations.slot(block), sequence.cache)
        for row in rows {
            let (at, position) = (sequence.start + row, cache.count + row)
            if activations.attendsInHalves {
                input.seal(slot, rows: at..<at + 1)
                let keys = input.halves(slot, row: at) + Q
                cache.write(keys, keys + KV, block: block, position: position)
            } else {
                let keys = input.values(slot, row: at) + Q
                cache.write(keys, keys + KV, block: block, position: position)
            }
        }
    }

    private func attend(_ block: Int, _ task: Task) {
        let (input, output, D) = (activations.queryKeyValue, activations.attention, configuration.headSize)
        let (cache, scale, column) = (task.sequence.cache, 1 / Float(D).squareRoot(), task.heads.lowerBound * D)
        let spanCount = cache.spanCount(upTo: task.end)
        let out = output.values(activations.attentionSlot(block), row: task.row) + column
        let queries = input.values(activations.slot(block), row: task.row) + column
        withUnsafeTemporaryAllocation(of: lora_key_span.self, capacity: spanCount) { buffer in
            cache.fill(buffer, block: block, head: task.keyValueHead, upTo: task.end)
            guard let spans = buffer.baseAddress else { return }
            withUnsafeTemporaryAllocation(of: Float.self, capacity: max(task.count, task.heads.count)) { logsumexp in
                guard let logsumexp = logsumexp.baseAddress else { return }
                if task.count == 1 {
                    lora_attention_decode(
                        out, logsumexp, queries, spans, spanCount, D, task.position, task.heads.count, D, scale)
                } else {
                    lora_attention_forward(
                        out, output.width, logsumexp, queries, input.width, spans, spanCount, D, task.position,
                        task.count, D, scale)
                }
            }
        }
    }

    private func attendInHalves(_ block: Int, _ task: Task) {
        let (input, output, D) = (activations.queryKeyValue, activations.attention, configuration.headSize)
        let (cache, scale, column) = (task.sequence.cache, 1 / Float(D).squareRoot(), task.heads.lowerBound * D)
        let pageCount = KeyValueCache.pageCount(positions: task.end)
        let out = output.halves(activations.attentionSlot(block), row: task.row) + column
        let queries = input.halves(activations.slot(block), row: task.row) + column
        withUnsafeTemporaryAllocation(of: UnsafePointer<UInt16>.self, capacity: pageCount) { buffer in
            cache.fill(buffer, block: block, head: task.keyValueHead, upTo: task.end)
            guard let pages = buffer.baseAddress else { return }
            if task.count == 1 {
                lora_attention_pages_bf16(
                    out, D, queries, D, pages, task.position, 0, task.heads.count, D, scale)
            } else {
                lora_attention_pages_bf16(
                    out, output.width, queries, input.width, pages, task.position, 1, task.count, D, scale)
            }
        }
    }
}
