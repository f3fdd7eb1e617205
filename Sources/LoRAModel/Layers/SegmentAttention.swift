import CKernels

/// Causal attention inside the segments of a packed batch, whose keys and values are rows of the same buffer as the
/// queries. Never a (T, T) buffer: the kernels go tile by tile (arXiv 2205.14135), in the element type of products.
final class SegmentAttention {
    private let configuration: ModelConfiguration
    private let pool: ThreadPool
    private let compute: Compute
    private let activations: Activations
    /// Gradients of keys and values that more than one group sees: (groups, T, (H+2K)·D), of which the keys' and values'
    /// columns are used.
    private let dShared: UnsafeMutablePointer<Float>

    // Of the batch at hand; kept so that a step allocates nothing.
    private var tasks: [Task] = []
    private var pieces: [Piece] = []
    private var groups: [Range<Int>] = []  // of pieces
    private var sharedRows: [Range<Int>] = []  // rows that pieces of other groups see too

    /// Queries that one forward task takes: long segments are shared between threads.
    private static let queryBlock = 256
    /// Groups that sum into shared keys apart from each other.
    private static let groupCount = 4
    /// Segments from this length on are cut into as many pieces as there are groups on the way back.
    private static let longSegment = 512

    /// A part of a segment's queries under one head.
    private struct Task {
        let segment: PackedBatch.Segment
        /// First query, counted in the segment.
        let first: Int
        let count: Int
        let head: Int
    }

    /// A part of a segment's queries on the way back. Its own keys' gradients are written in place, those of keys before
    /// it to the group's share.
    private struct Piece {
        let segment: PackedBatch.Segment
        let first: Int
        let count: Int
    }

    init(
        arena: Arena, configuration: ModelConfiguration, compute: Compute, pool: ThreadPool, activations: Activations
    ) {
        self.configuration = configuration
        self.pool = pool
        self.compute = compute
        self.activations = activations
        dShared = arena.allocate(Self.groupCount * activations.rows * activations.queryKeyValue.width)
    }

    static func size(configuration: ModelConfiguration, rows: Int) -> Int {
        let width = configuration.querySize + 2 * configuration.keyValueSize
        return Arena.size(of: Float.self, count: groupCount * rows * width)
    }

    private var scale: Float { 1 / Float(configuration.headSize).squareRoot() }
    private var queriesPerKey: Int { configuration.headCount / configuration.keyValueHeadCount }

    /// Plans the passes of `batch`.
    func prepare(_ batch: PackedBatch) {
        tasks.removeAll(keepingCapacity: true)
        pieces.removeAll(keepingCapacity: true)
        groups.removeAll(keepingCapacity: true)
        sharedRows.removeAll(keepingCapacity: true)
        if batch.prefixCount > 0 { sharedRows.append(0..<batch.prefixCount) }
        for segment in batch.segments {
            // The last queries see most keys: they come first.
            for block in (0..<(segment.count + Self.queryBlock - 1) / Self.queryBlock).reversed() {
                let first = block * Self.queryBlock
                let count = min(Self.queryBlock, segment.count - first)
                for head in 0..<configuration.headCount {
                    tasks.append(Task(segment: segment, first: first, count: count, head: head))
                }
            }
            cut(segment)
        }
        group(batch)
    }

    /// Cuts a long segment into pieces of about equal work.
    private func cut(_ segment: PackedBatch.Segment) {
        guard segment.count >= Self.longSegment else {
            return pieces.append(Piece(segment: segment, first: 0, count: segment.count))
        }
        var first = 0
        for part in 1...Self.groupCount {
            let share = (Double(part) / Double(Self.groupCount)).squareRoot()
            let end = part == Self.groupCount ? segment.count : Int(Double(segment.count) * share) / 64 * 64
            pieces.append(Piece(segment: segment, first: first, count: end - first))
            first = end
        }
        sharedRows.append(segment.start..<segment.start + segment.count)
    }

    /// Each piece by itself when nothing is shared, else a few groups of them, which never hold two pieces of a segment.
    private func group(_ batch: PackedBatch) {
        let count = sharedRows.isEmpty ? pieces.count : min(Self.groupCount, pieces.count)
        for part in 0..<count { groups.append(part * pieces.count / count..<(part + 1) * pieces.count / count) }
    }

    // MARK: Forward

    /// Writes `activations.attention` and the log-sum-exps from the rotated queries, keys and values of `block`; with
    /// bf16 operands it reads and writes the sealed slots.
    func forward(_ block: Int) {
        pool.forEachTask(tasks.count) { index, _ in
            let task = tasks[index]
            switch compute {
            case .f32: forwardF32(block, task)
            case .bf16: forwardBF16(block, task)
            }
        }
    }

    private func forwardF32(_ block: Int, _ task: Task) {
        let (input, output, D) = (activations.queryKeyValue, activations.attention, configuration.headSize)
        let (row, values) = (task.segment.start + task.first, input.values(activations.slot(block)))
        withSpans(task.segment, upTo: task.first + task.count, task.head / queriesPerKey, values, nil) {
            lora_attention_forward(
                output.values(activations.attentionSlot(block), row: row) + task.head * D, output.width,
                activations.logsumexp(block, head: task.head) + row, values + row * input.width + task.head * D,
                input.width, $0, $1, input.width, task.segment.prefix + task.first, task.count, D, scale)
        }
    }

    private func forwardBF16(_ block: Int, _ task: Task) {
        let (input, output, D) = (activations.queryKeyValue, activations.attention, configuration.headSize)
        let (row, values) = (task.segment.start + task.first, input.halves(activations.slot(block)))
        withSpans(task.segment, upTo: task.first + task.count, task.head / queriesPerKey, values, nil) {
            lora_attention_forward_bf16(
                output.halves(activations.attentionSlot(block), row: row) + task.head * D, output.width,
                activations.logsumexp(block, head: task.head) + row, values + row * input.width + task.head * D,
                input.width, $0, $1, input.width, task.segment.prefix + task.first, task.count, D, scale)
        }
    }

    // MARK: Backward

    /// Writes `gradient`, of `queryKeyValue`'s shape in f32, from dAttention (T, H·D). Heads that share keys share a
    /// task, so that sums over them have one order; sums into keys that several groups see are made per group, then
    /// joined.
    func backward(_ block: Int, _ gradient: ActivationBuffer, _ dAttention: ActivationBuffer) {
        let K = configuration.keyValueHeadCount
        pool.forEachTask(groups.count * K) { index, _ in
            let (part, keyValueHead) = (index / K, index % K)
            let shared = dShared + part * activations.rows * gradient.width
            for piece in pieces[groups[part]] {
                for head in keyValueHead * queriesPerKey..<(keyValueHead + 1) * queriesPerKey {
                    let work = (piece: piece, head: head, keyValueHead: keyValueHead)
                    switch compute {
                    case .f32: backwardF32(block, work, gradient, dAttention, shared)
                    case .bf16: backwardBF16(block, work, gradient, dAttention, shared)
                    }
                }
            }
        }
        for rows in sharedRows { join(gradient, rows) }
    }

    private typealias Work = (piece: Piece, head: Int, keyValueHead: Int)

    private func backwardF32(
        _ block: Int, _ work: Work, _ gradient: ActivationBuffer, _ dAttention: ActivationBuffer,
        _ shared: UnsafeMutablePointer<Float>
    ) {
        let (input, output, D) = (activations.queryKeyValue, activations.attention, configuration.headSize)
        let (segment, slot) = (work.piece.segment, activations.attentionSlot(block))
        let (row, column) = (segment.start + work.piece.first, work.head * D)
        let values = input.values(activations.slot(block))
        let places = (own: gradient.values(), shared: shared, from: work.piece.first)
        withSpans(segment, upTo: work.piece.first + work.piece.count, work.keyValueHead, values, places) {
            lora_attention_backward(
                gradient.values(row: row) + column, dAttention.values(row: row) + column,
                output.values(slot, row: row) + column, output.width,
                activations.logsumexp(block, head: work.head) + row, values + row * input.width + column, input.width,
                $0, $1, input.width, segment.prefix + work.piece.first, work.piece.count, D, scale)
        }
    }

    private func backwardBF16(
        _ block: Int, _ work: Work, _ gradient: ActivationBuffer, _ dAttention: ActivationBuffer,
        _ shared: UnsafeMutablePointer<Float>
    ) {
        let (input, output, D) = (activations.queryKeyValue, activations.attention, configuration.headSize)
        let (segment, slot) = (work.piece.segment, activations.attentionSlot(block))
        let (row, column) = (segment.start + work.piece.first, work.head * D)
        let values = input.halves(activations.slot(block))
        let places = (own: gradient.values(), shared: shared, from: work.piece.first)
        withSpans(segment, upTo: work.piece.first + work.piece.count, work.keyValueHead, values, places) {
            lora_attention_backward_bf16(
                gradient.values(row: row) + column, dAttention.halves(row: row) + column,
                output.halves(slot, row: row) + column, output.width,
                activations.logsumexp(block, head: work.head) + row, values + row * input.width + column, input.width,
                $0, $1, input.width, segment.prefix + work.piece.first, work.piece.count, D, scale)
        }
    }

    /// Adds what the groups summed for keys and values of shared rows, and empties their sums.
    private func join(_ gradient: ActivationBuffer, _ rows: Range<Int>) {
        let (Q, KV, width) = (configuration.querySize, configuration.keyValueSize, gradient.width)
        pool.forEachRange(of: rows.count) { range, _ in
            for group in groups.indices {
                for row in range {
                    let sums = dShared + (group * activations.rows + rows.lowerBound + row) * width + Q
                    lora_add(gradient.values(row: rows.lowerBound + row) + Q, sums, 2 * KV)
                    sums.update(repeating: 0, count: 2 * KV)
                }
            }
        }
    }

    // MARK: Keys

    /// Where gradients of keys and values go: those of the segment's rows `from` on to `own`, earlier ones to `shared`.
    private typealias Gradients = (own: UnsafeMutablePointer<Float>, shared: UnsafeMutablePointer<Float>, from: Int)

    /// The keys that the first `end` rows of a segment see, in up to three runs: the prefix, if it shares it, and its own
    /// before and after `gradients.from`.
    private func withSpans(
        _ segment: PackedBatch.Segment, upTo end: Int, _ keyValueHead: Int, _ values: UnsafePointer<Float>,
        _ gradients: Gradients?, _ body: (UnsafePointer<lora_key_span>, Int) -> Void
    ) {
        withUnsafeTemporaryAllocation(of: lora_key_span.self, capacity: 3) { spans in
            guard let first = spans.baseAddress else { return }
            var count = 0
            forEachRun(segment, upTo: end, keyValueHead, gradients) { at, rows, gradient in
                let KV = configuration.keyValueSize
                first[count] = lora_key_span(
                    keys: values + at, values: values + at + KV, dkeys: gradient, dvalues: gradient.map { $0 + KV },
                    count: rows)
                count += 1
            }
            body(first, count)
        }
    }

    private func withSpans(
        _ segment: PackedBatch.Segment, upTo end: Int, _ keyValueHead: Int, _ values: UnsafePointer<UInt16>,
        _ gradients: Gradients?, _ body: (UnsafePointer<lora_key_span_bf16>, Int) -> Void
    ) {
        withUnsafeTemporaryAllocation(of: lora_key_span_bf16.self, capacity: 3) { spans in
            guard let first = spans.baseAddress else { return }
            var count = 0
            forEachRun(segment, upTo: end, keyValueHead, gradients) { at, rows, gradient in
                let KV = configuration.keyValueSize
                first[count] = lora_key_span_bf16(
                    keys: values + at, values: values + at + KV, dkeys: gradient, dvalues: gradient.map { $0 + KV },
                    count: rows)
                count += 1
            }
            body(first, count)
        }
    }

    /// `at`: the run's first key in the buffer; its value lies K·D further.
    private func forEachRun(
        _ segment: PackedBatch.Segment, upTo end: Int, _ keyValueHead: Int, _ gradients: Gradients?,
        _ body: (_ at: Int, _ rows: Int, _ gradient: UnsafeMutablePointer<Float>?) -> Void
    ) {
        let width = configuration.querySize + 2 * configuration.keyValueSize
        let column = configuration.querySize + keyValueHead * configuration.headSize
        if segment.prefix > 0 { body(column, segment.prefix, gradients.map { $0.shared + column }) }
        let (at, own) = (segment.start * width + column, gradients?.from ?? 0)
        if own > 0 { body(at, own, gradients.map { $0.shared + at }) }
        body(at + own * width, end - own, gradients.map { $0.own + at + own * width })
    }
}
