/// What one thread needs for the rows of a chunk, small enough to stay in its core's cache.
struct Workspace {
    let attentionOutput: ActivationBuffer  // (chunk, C): what attention adds to the residual stream
    let middle: UnsafeMutablePointer<Float>  // (chunk, C): the residual stream after attention
    let normalized: ActivationBuffer  // (chunk, C)
    let gateUp: ActivationBuffer  // (chunk, 2F)
    let activated: ActivationBuffer  // (chunk, F)

    init(arena: Arena, configuration: ModelConfiguration, compute: Compute) {
        let buffer = { (width: Int) in
            ActivationBuffer(arena: arena, compute: compute, rows: ThreadPool.rowChunk, width: width)
        }
        attentionOutput = buffer(configuration.hiddenSize)
        middle = arena.allocate(ThreadPool.rowChunk * configuration.hiddenSize)
        normalized = buffer(configuration.hiddenSize)
        gateUp = buffer(2 * configuration.feedForwardSize)
        activated = buffer(configuration.feedForwardSize)
    }

    static func size(configuration: ModelConfiguration, compute: Compute) -> Int {
        let C = configuration.hiddenSize
        return [C, C, 2 * configuration.feedForwardSize, configuration.feedForwardSize].reduce(
            Arena.size(of: Float.self, count: ThreadPool.rowChunk * C)
        ) {
            $0 + ActivationBuffer.size(compute: compute, rows: ThreadPool.rowChunk, width: $1)
        }
    }
}
