import CKernels

/// The magnitudes of the adapter under training (DoRA, arXiv 2402.09353, as PEFT computes it): with gains g = m / n, where
/// n are the norms of the rows of W + s · B A, y = W x + (g - 1) W x' + g s · B A x', x' being x after dropout. The norms
/// count as constants on the way back (section 4.3).
///
/// Without dropout the forward pass scales what the base's own product gave. Everything else needs W x' or the gradient
/// through it apart from the base's, and multiplies W once more.
final class TrainedMagnitudes {
    private let parameters: AdapterParameters
    private let product: MatrixProduct
    /// By block and target.
    private let modules: [Module?]
    /// By target: memory for the block at hand.
    private let expansions: [Expansions?]
    /// By target: the block at hand.
    private var forward: [ExpandedMatrix?]
    private var backward: [ExpandedMatrix?]
    private let workspaces: [Workspace]

    private struct Module {
        let pair: LowRankPair
        let weights: StackedMatrix
        let norms: AdaptedNorms
        let gains: UnsafeMutablePointer<Float>  // (out)
        let inverseNorms: UnsafeMutablePointer<Float>  // (out)
    }

    private struct Expansions {
        let forward: ExpansionBuffer
        let backward: ExpansionBuffer
    }

    /// What one thread needs for the rows of a chunk.
    private struct Workspace {
        let output: UnsafeMutablePointer<Float>  // (chunk, widest out)
        let otherOutput: UnsafeMutablePointer<Float>  // (chunk, widest out)
        let input: UnsafeMutablePointer<Float>  // (chunk, widest in)
        /// Rounded rows, where products take bf16.
        let halves: UnsafeMutablePointer<UInt16>?  // (chunk, widest in or out)
        let norms: UnsafeMutablePointer<Float>
    }

    /// nil where the adapter has no magnitudes.
    init?(arena: Arena, model: BaseModel, parameters: AdapterParameters, product: MatrixProduct) {
        let layout = parameters.layout
        guard layout.rowFactors == .magnitudes else { return nil }
        self.parameters = parameters
        self.product = product
        let compute = product.compute
        // With all threads; they are there when the modules ask for them.
        product.pool.forEachTask(layout.pairs.count) { index, _ in
            _ = model.rowSquares.of(layout.pairs[index].target, block: layout.pairs[index].block, model)
        }
        modules = (0..<model.configuration.blockCount).flatMap { block in
            TargetModule.allCases.map { target in
                layout.pair(block: block, target).map { pair in
                    Module(
                        pair: pair, weights: StackedMatrix([model.matrix(target, block: block)]),
                        norms: AdaptedNorms(pair, parameters, model),
                        gains: arena.allocate(pair.outputs), inverseNorms: arena.allocate(pair.outputs))
                }
            }
        }
        let widest = Sizes(layout)
        expansions = TargetModule.allCases.map { target in
            widest.shapes[target].map { shape in
                let buffer = {
                    ExpansionBuffer(arena: arena, rows: shape.outputs, columns: shape.inputs, compute: compute)
                }
                return Expansions(forward: buffer(), backward: buffer())
            }
        }
        forward = expansions.map { _ in nil }
        backward = forward
        workspaces = (0..<product.pool.count).map { _ in
            Workspace(
                output: arena.allocate(ThreadPool.rowChunk * widest.outputs),
                otherOutput: arena.allocate(ThreadPool.rowChunk * widest.outputs),
                input: arena.allocate(ThreadPool.rowChunk * widest.inputs),
                halves: compute == .bf16
                    ? arena.allocate(ThreadPool.rowChunk * max(widest.inputs, widest.outputs)) : nil,
                norms: arena.allocate(AdaptedNorms.scratchCount(rank: layout.largestRank, inputs: widest.inputs)))
        }
    }

    /// Bytes of the arena that `init` takes.
    static func size(layout: AdapterLayout, compute: Compute, threads: Int) -> Int {
        guard layout.rowFactors == .magnitudes else { return 0 }
        let (widest, chunk) = (Sizes(layout), ThreadPool.rowChunk)
        let norms = AdaptedNorms.scratchCount(rank: layout.largestRank, inputs: widest.inputs)
        let floats = [chunk * widest.outputs, chunk * widest.outputs, chunk * widest.inputs, norms]
        let halves = compute == .bf16 ? chunk * max(widest.inputs, widest.outputs) : 0
        let perThread =
            floats.reduce(0) { $0 + Arena.size(of: Float.self, count: $1) }
            + Arena.size(of: UInt16.self, count: halves)
        return threads * perThread
            + layout.pairs.reduce(0) { $0 + 2 * Arena.size(of: Float.self, count: $1.outputs) }
            + widest.shapes.values.reduce(0) {
                $0 + 2 * ExpansionBuffer.size(rows: $1.outputs, columns: $1.inputs, compute: compute)
            }
    }

    /// Shapes of the projections that have a pair, and the widest of them.
    private struct Sizes {
        var shapes: [TargetModule: (outputs: Int, inputs: Int)] = [:]
        var outputs = 0
        var inputs = 0

        init(_ layout: AdapterLayout) {
            for pair in layout.pairs {
                shapes[pair.target] = (pair.outputs, pair.inputs)
                outputs = max(outputs, pair.outputs)
                inputs = max(inputs, pair.inputs)
            }
        }
    }

    // MARK: Before the rows

    /// The gains that A, B and m give now, with all threads.
    func update() {
        product.pool.forEachTask(modules.count) { index, thread in
            guard let module = modules[index] else { return }
            let (magnitudes, norms) = (parameters.rowFactors(module.pair), module.inverseNorms)
            module.norms.write(norms, scratch: workspaces[thread].norms)
            for row in 0..<module.pair.outputs {
                module.gains[row] = AdapterParameters.gain(magnitude: magnitudes[row], norm: norms[row])
                norms[row] = norms[row] > 0 ? 1 / norms[row] : 0
            }
        }
    }

    /// Expands the matrices of `block` for the products that its rows will need.
    func prepare(_ block: Int, goesBackward: Bool) {
        for target in TargetModule.allCases {
            guard let module = module(target, block), let buffers = expansions[target.slot] else { continue }
            forward[target.slot] = product.expand(module.weights, .forward, into: buffers.forward)
            if goesBackward {
                backward[target.slot] = product.expand(module.weights, .backward, into: buffers.backward)
            }
        }
    }

    private func module(_ target: TargetModule, _ block: Int) -> Module? {
        modules[block * TargetModule.allCases.count + target.slot]
    }

    // MARK: Rows of a chunk. All pointers are at the first of `rows`.

    /// y (rows, out), rows `yStride` apart, in place: from `onto` + W x to the adapted projection's output; `onto` (rows,
    /// out) is nil for zeros. h (rows, r) = A x' is overwritten.
    func apply(
        _ branch: LowRankBranch, _ y: UnsafeMutablePointer<Float>, _ yStride: Int, onto: UnsafePointer<Float>?,
        h: UnsafeMutablePointer<Float>, _ x: ActivationRows, _ rows: Range<Int>, thread: Int
    ) {
        let (pair, T) = (branch.pair, rows.count)
        guard let module = module(pair.target, pair.block) else { return }
        guard branch.dropout != nil else {
            branch.forward(y, yStride: yStride, h: h, x.values, rows: rows)
            return lora_dora_scale(y, yStride, onto, module.gains, T, pair.outputs)
        }
        let (base, low) = (workspaces[thread].output, workspaces[thread].otherOutput)
        multiply(base, branch, x, rows, thread: thread)
        low.update(repeating: 0, count: T * pair.outputs)
        branch.forward(low, yStride: pair.outputs, h: h, x.values, rows: rows)
        lora_dora_add(y, yStride, base, low, module.gains, T, pair.outputs)
    }

    /// With dy (rows, out): `gradients` of the pair ADD, and dx (rows, in) ADDS the gradient through the branch and
    /// through (g - 1) W unless nil. dh (rows, r) is scratch.
    func addGradients(
        _ branch: LowRankBranch, dx: UnsafeMutablePointer<Float>?, gradients: UnsafeMutablePointer<Float>,
        dh: UnsafeMutablePointer<Float>, dy: ActivationRows, h: UnsafePointer<Float>, _ x: ActivationRows,
        _ rows: Range<Int>, thread: Int
    ) {
        let (pair, T) = (branch.pair, rows.count)
        let N = pair.outputs
        guard let module = module(pair.target, pair.block) else { return }
        let (output, other) = (workspaces[thread].output, workspaces[thread].otherOutput)
        multiply(output, branch, x, rows, thread: thread)
        lora_lowrank_up(output, N, h, branch.B, pair.scale, T, N, pair.rank)
        lora_dora_backward_magnitude(
            gradients + pair.countA + pair.countB, dy.values, dy.stride, output, module.inverseNorms, T, N)
        lora_dora_backward_input(output, other, dy.values, dy.stride, module.gains, T, N)
        branch.backward(dx, gradients: gradients, dh: dh, output, dyStride: N, h: h, x.values, rows: rows)
        guard let dx, let weights = backward[pair.target.slot] else { return }
        let operand = operand(other, T * N, thread: thread)
        guard let dropout = branch.dropout else {
            return product.multiply(dx, operand, rows: T, weights, thread: thread, accumulate: true)
        }
        let dropped = workspaces[thread].input
        product.multiply(dropped, operand, rows: T, weights, thread: thread)
        lora_dropout_backward(
            dx, dropped, dropout.probability, dropout.seed, UInt64(rows.lowerBound * pair.inputs), T * pair.inputs)
    }

    /// out (rows, out) = W x'.
    private func multiply(
        _ out: UnsafeMutablePointer<Float>, _ branch: LowRankBranch, _ x: ActivationRows, _ rows: Range<Int>,
        thread: Int
    ) {
        let slot = branch.pair.target.slot
        guard let weights = forward[slot] else { preconditionFailure("nothing is prepared for \(branch.pair)") }
        let input =
            branch.dropout == nil
            ? x.operand
            : operand(branch.input(x.values, rows: rows), rows.count * branch.pair.inputs, thread: thread)
        product.multiply(out, input, rows: rows.count, weights, thread: thread)
    }

    /// Values in the element type of products.
    private func operand(_ values: UnsafePointer<Float>, _ count: Int, thread: Int) -> UnsafeRawPointer {
        guard let halves = workspaces[thread].halves else { return UnsafeRawPointer(values) }
        lora_f32_to_bf16(halves, values, count)
        return UnsafeRawPointer(halves)
    }
}
