import CKernels

/// Attention of new rows to the cached keys and values of their own sequence.
struct CachedAttention {
    let configuration: ModelConfiguration
    let pool: ThreadPool
    let activations: Activations
    private let halves = Halves()

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

    /// Keys and values of one sequence in bf16.
    private final class Halves {
        private(set) var values: UnsafeMutablePointer<UInt16>?  // (capacity)
        private var capacity = 0

        deinit { values?.deallocate() }

        /// Room for `count` elements, which hold nothing.
        func reserve(_ count: Int) -> UnsafeMutablePointer<UInt16> {
            if let values, count <= capacity { return values }
            values?.deallocate()
            capacity = max(count, 2 * capacity)
            let new = UnsafeMutablePointer<UInt16>.allocate(capacity: capacity)
            values = new
            return new
        }
    }

    /// Appends the rows' keys and values to their caches (not yet counted there) and writes `activations.attention`.
    func forward(_ block: Int, sequences: [Sequence]) {
        append(block, sequences: sequences)
        if activations.attendsInHalves {
            for sequence in sequences { attendInHalves(block, sequence) }
        } else {
            attend(block, sequences)
        }
    }

    private func attend(_ block: Int, _ sequences: [Sequence]) {
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

    /// Rounds the sequence's keys and values, then attends with what the CPU multiplies fastest. Neither depends on how
    /// the sequence came here in chunks.
    private func attendInHalves(_ block: Int, _ sequence: Sequence) {
        let (input, output) = (activations.queryKeyValue, activations.attention)
        let (H, D, width) = (configuration.headCount, configuration.headSize, 2 * configuration.keyValueSize)
        let (slot, attentionSlot) = (activations.slot(block), activations.attentionSlot(block))
        let (cache, share) = (sequence.cache, H / configuration.keyValueHeadCount)
        let end = cache.count + sequence.count
        let rounded = halves.reserve(end * width)
        pool.forEachRange(of: end) { range, _ in
            for position in range {
                lora_f32_to_bf16(rounded + position * width, cache.row(block: block, position: position), width)
                guard position >= cache.count else { continue }
                let row = sequence.start + position - cache.count
                input.seal(slot, rows: row..<row + 1)
            }
        }
        let blocks = (sequence.count + Self.queryBlock - 1) / Self.queryBlock
        pool.forEachTask(blocks * H) { task, _ in
            // The last queries see most keys: they go first, so that threads end together.
            let (first, head) = ((blocks - 1 - task / H) * Self.queryBlock, task % H)
            let (count, row) = (min(Self.queryBlock, sequence.count - first), sequence.start + first)
            let keys = UnsafePointer(rounded) + head / share * D
            var span = lora_key_span_bf16(
                keys: keys, values: keys + width / 2, dkeys: nil, dvalues: nil, count: cache.count + first + count)
            lora_attention_forward_bf16(
                output.halves(attentionSlot, row: row) + head * D, output.width,
                activations.logsumexp(block, head: head) + row, input.halves(slot, row: row) + head * D, input.width,
                &span, 1, width, cache.count + first, count, D, 1 / Float(D).squareRoot())
        }
    }
}
