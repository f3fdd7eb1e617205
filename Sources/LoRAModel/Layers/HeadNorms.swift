import CKernels

/// RMSNorm (arXiv 1910.07467) of each head of queries and keys before its rotation, as in qwen3, forward and backward. Its
/// weights are frozen.
struct HeadNorms {
    private let configuration: ModelConfiguration
    private let workspaces: [Workspace]

    /// What one thread needs for one row.
    private struct Workspace {
        let x: UnsafeMutablePointer<Float>  // ((H+K)·D)
        let dx: UnsafeMutablePointer<Float>  // ((H+K)·D)
        let scales: UnsafeMutablePointer<Float>  // (H+K): 1 / rms
    }

    init(arena: Arena, configuration: ModelConfiguration, threads: Int) {
        self.configuration = configuration
        let (heads, width) = Self.heads(configuration)
        workspaces = (0..<threads).map { _ in
            Workspace(x: arena.allocate(width), dx: arena.allocate(width), scales: arena.allocate(heads))
        }
    }

    static func size(configuration: ModelConfiguration, threads: Int) -> Int {
        let (heads, width) = heads(configuration)
        return threads
            * (2 * Arena.size(of: Float.self, count: width) + Arena.size(of: Float.self, count: heads))
    }

    /// H+K and (H+K)·D; nothing where heads have no norm.
    private static func heads(_ configuration: ModelConfiguration) -> (count: Int, width: Int) {
        guard configuration.normalizesHeads else { return (0, 0) }
        let count = configuration.headCount + configuration.keyValueHeadCount
        return (count, count * configuration.headSize)
    }

    /// q, k = norm(q), norm(k) in rows of y, which are `stride` apart; what they were is kept in `tape`.
    func forward(
        _ y: UnsafeMutablePointer<Float>, stride: Int, _ weights: BaseModel.HeadNormWeights, tape: TapeBuffer,
        slot: Int, _ rows: Range<Int>, thread: Int
    ) {
        let (H, K, D) = (configuration.headCount, configuration.keyValueHeadCount, configuration.headSize)
        let (workspace, epsilon) = (workspaces[thread], configuration.normEpsilon)
        for row in rows {
            let out = y + (row - rows.lowerBound) * stride
            let x = tape.values(slot, row: row, scratch: workspace.x)
            x.update(from: out, count: tape.width)
            tape.keep(slot, rows: row..<row + 1, scratch: x)
            lora_rmsnorm_forward(out, workspace.scales, x, weights.query, epsilon, H, D)
            lora_rmsnorm_forward(out + H * D, workspace.scales, x + H * D, weights.key, epsilon, K, D)
        }
    }

    /// q, k = norm(q), norm(k): gradients in rows of dy, which are `stride` apart, in place.
    func backward(
        _ dy: UnsafeMutablePointer<Float>, stride: Int, _ weights: BaseModel.HeadNormWeights, tape: TapeBuffer,
        slot: Int, _ rows: Range<Int>, thread: Int
    ) {
        let (H, K, D) = (configuration.headCount, configuration.keyValueHeadCount, configuration.headSize)
        let (workspace, epsilon) = (workspaces[thread], configuration.normEpsilon)
        for row in rows {
            let gradient = dy + (row - rows.lowerBound) * stride
            tape.recall(slot, rows: row..<row + 1, scratch: workspace.x)
            let x = tape.values(slot, row: row, scratch: workspace.x)
            for (first, heads, weight) in [(0, H, weights.query), (H, K, weights.key)] {
                let (x, dx, dout) = (x + first * D, workspace.dx + first * D, gradient + first * D)
                lora_rmsnorm_forward(dx, workspace.scales, x, weight, epsilon, heads, D)
                dx.update(repeating: 0, count: heads * D)
                lora_rmsnorm_backward(dx, dout, x, weight, workspace.scales, heads, D)
            }
            gradient.update(from: workspace.dx, count: tape.width)
        }
    }
}

/// What a family does to queries, keys and values between projection and rotation. Biases are frozen, so that nothing of
/// them is left on the way back.
extension BlockForward {
    /// Adds biases and norms to y, rows of queries, keys and values.
    func finishProjections(_ index: Int, _ y: UnsafeMutablePointer<Float>, _ rows: Range<Int>, thread: Int) {
        let (block, stride) = (model.blocks[index], activations.queryKeyValue.width)
        addBias(block.queryKeyValueBias, y, stride: stride, rows: rows.count)
        guard let weights = block.headNorms else { return }
        headNorms.forward(
            y, stride: stride, weights, tape: activations.unnormalized, slot: activations.slot(index), rows,
            thread: thread)
    }

    /// Takes the gradients dy of what `finishProjections` gave to those of the projections.
    func finishProjectionsBack(_ index: Int, _ dy: UnsafeMutablePointer<Float>, _ rows: Range<Int>, thread: Int) {
        guard let weights = model.blocks[index].headNorms else { return }
        headNorms.backward(
            dy, stride: activations.queryKeyValue.width, weights, tape: activations.unnormalized,
            slot: activations.slot(index), rows, thread: thread)
    }

    /// Adds `bias` (one row; empty for none) to rows of y.
    func addBias(_ bias: [Float], _ y: UnsafeMutablePointer<Float>, stride: Int, rows: Int) {
        guard !bias.isEmpty else { return }
        for row in 0..<rows { lora_add(y + row * stride, bias, bias.count) }
    }
}
