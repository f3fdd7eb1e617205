import CKernels

/// One forward step over rows of any mix of sequences and adapters: the base is multiplied once for all rows, then each
/// adapter's rows get their branch.
public final class InferencePass {
    public let model: BaseModel
    /// Rows that one step may have.
    public let capacity: Int
    /// Positions that a sequence may reach.
    public let positions: Int

    private let arena: Arena
    private let product: MatrixProduct
    private let activations: Activations
    private let adapters: GroupedAdapters
    private let forward: BlockForward
    private let attention: CachedAttention
    private let gathered: UnsafeMutablePointer<Float>  // (logitRows, C)
    private let scales: UnsafeMutablePointer<Float>  // (logitRows)
    private let normalized: UnsafeMutablePointer<Float>  // (logitRows, C)
    private let logits: UnsafeMutablePointer<Float>  // (logitRows, V)
    private var step: Step?

    /// A step under way.
    private struct Step {
        let chunks: [Chunk]
        let rows: Rows
        /// Blocks that its rows went through.
        var blocks = 0
    }

    /// Rows of logits at a time.
    private static let logitRows = 32

    /// How the base is multiplied. The two round differently, and neither lets a row depend on the other rows: a row's
    /// result is the same whatever else is in its pass.
    public enum Products: Sendable {
        /// Matrices are expanded into the engine's elements, which pays for many rows.
        case expanded
        /// Stored blocks are multiplied as they are, for at most `storedRows` rows.
        case stored
    }

    /// Rows of a pass over stored blocks.
    public static var storedRows: Int { 128 }

    /// Rows of a pass over prompts: enough to pay for expanding.
    public static var mostRows: Int { 512 }

    /// How many tokens of a prompt, its first ones, go through expanded matrices when a server reads it: whole pages of a
    /// cache, so that pages depend on their tokens alone. The rest are 1 – 16 tokens that no page holds, or a short prompt,
    /// for which expanding all matrices would take longer than multiplying stored blocks does.
    public static func expandedTokens(ofPrompt count: Int) -> Int {
        count <= shortPrompt ? 0 : (count - 1) / KeyValueCache.pageLength * KeyValueCache.pageLength
    }

    /// Tokens of a prompt up to which stored blocks are faster.
    private static let shortPrompt = 64

    /// New tokens of one sequence.
    public struct Chunk {
        public let cache: KeyValueCache
        public let tokens: [Int32]
        public let adapter: PackedAdapter?
        public let wanted: Wanted

        /// The rows whose logits are wanted.
        public enum Wanted: Sendable {
            case none
            case last
            case all
        }

        public init(cache: KeyValueCache, tokens: [Int32], adapter: PackedAdapter?, wanted: Wanted) {
            self.cache = cache
            self.tokens = tokens
            self.adapter = adapter
            self.wanted = wanted
        }
    }

    /// - Throws: `FormatError` when the memory cannot be had.
    public init(model: BaseModel, pool: ThreadPool, compute: Compute, capacity: Int, positions: Int) throws {
        self.model = model
        self.capacity = capacity
        self.positions = positions
        let rows = MatrixProduct.paddedRows(capacity)
        let (R, C, V) = (Self.logitRows, model.configuration.hiddenSize, model.configuration.vocabularySize)
        arena = try Arena(
            capacity: Activations.size(
                configuration: model.configuration, compute: compute, rows: rows, rankSum: 0, tape: .none)
                + BlockForward.size(configuration: model.configuration, compute: compute, threads: pool.count)
                + 2 * Arena.size(of: Float.self, count: R * C) + Arena.size(of: Float.self, count: R)
                + Arena.size(of: Float.self, count: R * V))
        product = MatrixProduct(pool: pool, compute: compute)
        activations = Activations(
            arena: arena, configuration: model.configuration, compute: compute, rows: rows, rankSum: 0, tape: .none)
        adapters = GroupedAdapters(rows: rows)
        forward = BlockForward(
            arena: arena, model: model, product: product, rotary: RotaryTable(model: model, positions: positions),
            activations: activations, lowRank: adapters)
        attention = CachedAttention(configuration: model.configuration, pool: pool, activations: activations)
        gathered = arena.allocate(R * C)
        scales = arena.allocate(R)
        normalized = arena.allocate(R * C)
        logits = arena.allocate(R * V)
    }

    /// Runs one step and hands out the wanted logits (V), in the order of chunks and rows.
    public func run(
        _ chunks: [Chunk], by products: Products = .expanded,
        onLogits: (_ chunk: Int, _ row: Int, _ logits: UnsafeBufferPointer<Float>) -> Void
    ) {
        begin(chunks, by: products)
        advance(blocks: model.configuration.blockCount)
        finish(onLogits)
    }

    // MARK: A step in parts, between which other passes may run

    /// Begins a step; `advance` until no block is left, then `finish`. A step that is begun before that one is finished
    /// takes its place: the caches are then as if it had never been.
    public func begin(_ chunks: [Chunk], by products: Products = .expanded) {
        let rows = Rows(chunks)
        precondition(rows.tokens.count <= capacity, "\(rows.tokens.count) rows in a pass of \(capacity)")
        precondition(rows.lastPosition < positions, "position \(rows.lastPosition) in a pass of \(positions)")
        precondition(products == .expanded || rows.tokens.count <= Self.storedRows, "\(rows.tokens.count) stored rows")
        product.readsStored = products == .stored
        for chunk in chunks {
            chunk.cache.reserve(chunk.cache.count + chunk.tokens.count, inHalves: product.multipliesHalves)
        }
        adapters.set(rows.groups)
        forward.embed(rows.tokens)
        step = Step(chunks: chunks, rows: rows)
    }

    /// Rows of the step under way.
    public var rowCount: Int { step?.rows.tokens.count ?? 0 }

    /// Takes the step through its next blocks.
    /// - Returns: how many are left.
    @discardableResult
    public func advance(blocks count: Int) -> Int {
        guard var step else { preconditionFailure("no step to advance") }
        let end = min(step.blocks + count, model.configuration.blockCount)
        for index in step.blocks..<end {
            forward.run(index, positions: step.rows.positions, attendsSealed: false) {
                attention.forward(index, sequences: step.rows.sequences)
            }
        }
        step.blocks = end
        self.step = step
        return model.configuration.blockCount - end
    }

    /// Ends the step: the caches then hold its tokens.
    public func finish(_ onLogits: (_ chunk: Int, _ row: Int, _ logits: UnsafeBufferPointer<Float>) -> Void) {
        guard let step, step.blocks == model.configuration.blockCount else {
            preconditionFailure("\(step?.blocks ?? 0) of \(model.configuration.blockCount) blocks are done")
        }
        abandon()
        for chunk in step.chunks { chunk.cache.advance(by: chunk.tokens.count) }
        emitLogits(step.rows.wanted, onLogits)
    }

    /// Forgets the step under way, if there is one: its caches are then as if it had never been, and none of them and of
    /// its adapters is held any longer.
    public func abandon() {
        step = nil
        adapters.set([])
    }

    private func emitLogits(
        _ wanted: [Rows.Wanted], _ onLogits: (Int, Int, UnsafeBufferPointer<Float>) -> Void
    ) {
        let configuration = model.configuration
        let (C, V) = (configuration.hiddenSize, configuration.vocabularySize)
        let x = activations.residual(configuration.blockCount)
        for lower in stride(from: 0, to: wanted.count, by: Self.logitRows) {
            let part = wanted[lower..<min(lower + Self.logitRows, wanted.count)]
            for (index, row) in part.enumerated() { (gathered + index * C).update(from: x + row.row * C, count: C) }
            lora_rmsnorm_forward(
                normalized, scales, gathered, model.outputNorm, configuration.normEpsilon, part.count, C)
            product.forwardDirectly(logits, stride: V, normalized, rows: part.count, model.output)
            for (index, row) in part.enumerated() {
                onLogits(row.chunk, row.indexInChunk, UnsafeBufferPointer(start: logits + index * V, count: V))
            }
        }
    }
}

/// The rows of a step, from its chunks.
private struct Rows {
    struct Wanted {
        let chunk: Int
        let indexInChunk: Int
        let row: Int
    }

    var tokens: [Int32] = []
    var positions: [Int32] = []
    var groups: [GroupedAdapters.Group] = []
    var sequences: [CachedAttention.Sequence] = []
    var wanted: [Wanted] = []

    var lastPosition: Int { positions.reduce(-1) { max($0, Int($1)) } }

    init(_ chunks: [InferencePass.Chunk]) {
        for (index, chunk) in chunks.enumerated() {
            precondition(!chunk.tokens.isEmpty, "chunk \(index) of \(chunks.count) has no tokens")
            let start = tokens.count
            tokens += chunk.tokens
            positions += chunk.tokens.indices.map { Int32(chunk.cache.count + $0) }
            sequences.append(.init(cache: chunk.cache, start: start, count: chunk.tokens.count))
            if let adapter = chunk.adapter { groups.append(.init(rows: start..<tokens.count, adapter: adapter)) }
            switch chunk.wanted {
            case .none: break
            case .last:
                let last = chunk.tokens.count - 1
                wanted.append(Wanted(chunk: index, indexInChunk: last, row: start + last))
            case .all:
                wanted += chunk.tokens.indices.map { Wanted(chunk: index, indexInChunk: $0, row: start + $0) }
            }
        }
    }
}
