import CKernels

/// The adapter under training as a pass sees it: the branches it adds to every row, what it keeps for the way back, and
/// the gradients, which each thread sums for its own rows before they are joined in a fixed order.
final class TrainedAdapter: LowRankPlan {
    let parameters: AdapterParameters
    private let activations: Activations
    private let pool: ThreadPool
    /// Per block and target: the ranks before it in its block.
    private let rankOffsets: [Int: Int]
    /// (threads, largest block): gradients of one block.
    private let partial: [UnsafeMutablePointer<Float>]
    /// Whether a product has written a pair's gradients in the block at hand: (threads, targets). The first one
    /// overwrites what the last block left; kernels add to zeros.
    private let written: [UnsafeMutablePointer<Bool>]
    private let dLowRank: [UnsafeMutablePointer<Float>]  // (threads, chunk, r)
    private let dropoutScratch: [UnsafeMutablePointer<Float>]  // (threads, chunk, widest input); empty without dropout
    private let dropout: Float
    /// For ranks that are worth it.
    private let products: LowRankProducts?
    /// nil where the adapter has none.
    let magnitudes: TrainedMagnitudes?
    /// Off in evaluation.
    var dropoutSeed: UInt64?

    init(
        arena: Arena, model: BaseModel, parameters: AdapterParameters, activations: Activations, product: MatrixProduct,
        dropout: Float, widestInput: Int
    ) {
        let pool = product.pool
        self.parameters = parameters
        self.activations = activations
        self.pool = pool
        self.dropout = dropout
        let layout = parameters.layout
        rankOffsets = Self.rankOffsets(layout)
        partial = (0..<pool.count).map { _ in arena.allocate(layout.largestBlockCount) }
        written = (0..<pool.count).map { _ in arena.allocate(TargetModule.allCases.count, of: Bool.self) }
        dLowRank = (0..<pool.count).map { _ in arena.allocate(ThreadPool.rowChunk * layout.largestRank) }
        dropoutScratch = (0..<(dropout > 0 ? pool.count : 0)).map { _ in
            arena.allocate(ThreadPool.rowChunk * widestInput)
        }
        products = LowRankProducts(arena: arena, parameters: parameters, product: product, dropout: dropout)
        magnitudes = TrainedMagnitudes(arena: arena, model: model, parameters: parameters, product: product)
    }

    static func size(
        layout: AdapterLayout, compute: Compute, threads: Int, dropout: Float, widestInput: Int
    ) -> Int {
        TrainedMagnitudes.size(layout: layout, compute: compute, threads: threads)
            + LowRankProducts.size(layout: layout, compute: compute, dropout: dropout, threads: threads) + threads
            * (Arena.size(of: Float.self, count: layout.largestBlockCount)
                + Arena.size(of: Bool.self, count: TargetModule.allCases.count)
                + Arena.size(of: Float.self, count: ThreadPool.rowChunk * layout.largestRank)
                + (dropout > 0 ? Arena.size(of: Float.self, count: ThreadPool.rowChunk * widestInput) : 0))
    }

    /// Sum of the ranks of the block that has most.
    static func rankSum(_ layout: AdapterLayout) -> Int {
        Dictionary(grouping: layout.pairs, by: \.block).values.reduce(0) { max($0, $1.reduce(0) { $0 + $1.rank }) }
    }

    /// Readies the branches of `block`.
    func prepare(_ block: Int) {
        products?.prepare(block)
        if dropout > 0, dropoutSeed != nil { magnitudes?.prepare(block, goesBackward: false) }
    }

    /// The same for the way back.
    func prepareBackward(_ block: Int) {
        products?.prepare(block)
        magnitudes?.prepare(block, goesBackward: true)
    }

    func add(
        _ target: TargetModule, _ block: Int, _ y: UnsafeMutablePointer<Float>, _ yStride: Int,
        onto: UnsafePointer<Float>?, _ x: ActivationRows, _ rows: Range<Int>, thread: Int
    ) {
        guard let pair = parameters.layout.pair(block: block, target) else { return }
        let h = h(pair) + rows.lowerBound * pair.rank
        if let magnitudes {
            let branch = branch(pair, thread: thread)
            return magnitudes.apply(branch, y, yStride, onto: onto, h: h, x, rows, thread: thread)
        }
        if pair.rowFactors == .gains {
            lora_dora_scale(y, yStride, onto, parameters.rowFactors(pair), rows.count, pair.outputs)
        }
        guard let products, LowRankProducts.multiplies(pair) else {
            return branch(pair, thread: thread).forward(y, yStride: yStride, h: h, x.values, rows: rows)
        }
        products.project(pair, h: h, x, rows: rows.count, thread: thread)
        products.add(pair, y, stride: yStride, h: h, rows: rows.count, thread: thread)
    }

    /// Computes A x of a branch again, which a short tape does not keep.
    func project(_ target: TargetModule, _ block: Int, _ x: ActivationRows, _ rows: Range<Int>, thread: Int) {
        guard let pair = parameters.layout.pair(block: block, target) else { return }
        let h = h(pair) + rows.lowerBound * pair.rank
        guard let products, LowRankProducts.multiplies(pair) else {
            return branch(pair, thread: thread).project(h, x.values, rows: rows)
        }
        products.project(pair, h: h, x, rows: rows.count, thread: thread)
    }

    func readsValues(_ target: TargetModule, _ block: Int) -> Bool {
        guard let pair = parameters.layout.pair(block: block, target) else { return false }
        return products == nil || !LowRankProducts.multiplies(pair)
    }

    func reaches(_ target: TargetModule, _ block: Int) -> Bool {
        parameters.layout.pair(block: block, target) != nil
    }

    /// The gradients of a branch for `rows`, which `thread` owns; dx (rows, in) ADDS unless nil. All pointers are at the
    /// first of the rows.
    func addGradients(
        _ target: TargetModule, _ block: Int, dx: UnsafeMutablePointer<Float>?, dy: ActivationRows, _ x: ActivationRows,
        _ rows: Range<Int>, thread: Int
    ) {
        guard let pair = parameters.layout.pair(block: block, target) else { return }
        let h = h(pair) + rows.lowerBound * pair.rank
        precondition(pair.rowFactors != .gains, "an adapter made for inference cannot be trained")
        let sums = partial[thread] + pair.offset - blockRange(block).lowerBound
        if let magnitudes {
            return magnitudes.addGradients(
                branch(pair, thread: thread), dx: dx, gradients: sums, dh: dLowRank[thread], dy: dy, h: h, x, rows,
                thread: thread)
        }
        guard let products, LowRankProducts.multiplies(pair) else {
            return branch(pair, thread: thread).backward(
                dx, gradients: sums, dh: dLowRank[thread], dy.values, dyStride: dy.stride, h: h, x.values, rows: rows)
        }
        let isFirst = !written[thread][target.slot]
        written[thread][target.slot] = true
        products.backward(
            pair, dx: dx, gradients: sums, overwrites: isFirst, dh: dLowRank[thread], dy: dy, h: h, x, rows: rows.count,
            thread: thread)
    }

    /// Adds what the threads summed for `block` to `gradients` (parameterCount) and empties their sums.
    func joinGradients(_ block: Int, into gradients: UnsafeMutablePointer<Float>) {
        let start = blockRange(block).lowerBound
        for pair in parameters.layout.pairs(block: block) {
            if products != nil, LowRankProducts.multiplies(pair) {
                joinProducts(pair, from: start, into: gradients)
            } else {
                joinKernels(pair, from: start, into: gradients)
            }
        }
    }

    private func joinKernels(_ pair: LowRankPair, from start: Int, into gradients: UnsafeMutablePointer<Float>) {
        pool.forEachRange(of: pair.count, multiple: 16) { range, _ in
            let at = pair.offset + range.lowerBound
            for sums in partial {
                lora_add(gradients + at, sums + at - start, range.count)
                (sums + at - start).update(repeating: 0, count: range.count)
            }
        }
    }

    /// Products sum the gradient of A, and that of B as its transpose (r, out).
    private func joinProducts(_ pair: LowRankPair, from start: Int, into gradients: UnsafeMutablePointer<Float>) {
        let slot = pair.target.slot
        for (sums, written) in zip(partial, written) where written[slot] {
            pool.forEachRange(of: pair.countA, multiple: 16) { range, _ in
                let at = pair.offset + range.lowerBound
                lora_add(gradients + at, sums + at - start, range.count)
            }
            pool.forEachRange(of: pair.outputs, multiple: 16) { range, _ in
                lora_add_transpose(
                    gradients + pair.offsetB + range.lowerBound * pair.rank,
                    sums + pair.offsetB - start + range.lowerBound, pair.outputs, range.count, pair.rank)
            }
            written[slot] = false
        }
    }

    /// Where the parameters of `block` are.
    private func blockRange(_ block: Int) -> Range<Int> {
        let pairs = parameters.layout.pairs(block: block)
        guard let first = pairs.first, let last = pairs.last else { return 0..<0 }
        return first.offset..<last.end
    }

    private func branch(_ pair: LowRankPair, thread: Int) -> LowRankBranch {
        var branch = LowRankBranch(pair: pair, adapter: parameters)
        if !dropoutScratch.isEmpty, let dropoutSeed {
            let stream = SplitMix64(seed: dropoutSeed &+ UInt64(pair.offset))
            branch.dropout = .init(probability: dropout, seed: stream.state, scratch: dropoutScratch[thread])
        }
        return branch
    }

    private func h(_ pair: LowRankPair) -> UnsafeMutablePointer<Float> {
        activations.lowRank(pair.block, rankOffset: rankOffsets[pair.offset] ?? 0)
    }

    /// By the pair's offset in the parameters.
    private static func rankOffsets(_ layout: AdapterLayout) -> [Int: Int] {
        var offsets: [Int: Int] = [:]
        var (block, sum) = (-1, 0)
        for pair in layout.pairs {
            if pair.block != block { (block, sum) = (pair.block, 0) }
            offsets[pair.offset] = sum
            sum += pair.rank
        }
        return offsets
    }
}
