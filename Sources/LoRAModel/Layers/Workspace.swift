/// What one thread needs for the rows of a chunk, small enough to stay in its core's cache.
struct Workspace {
    let normalized: ActivationBuffer  // (chunk, C)
    let gateUp: ActivationBuffer  // (chunk, 2F)
    let activated: ActivationBuffer  // (chunk, F)

    init(arena: Arena, configuration: ModelConfiguration, compute: Compute) {
        let buffer = { (width: Int) in
            ActivationBuffer(arena: arena, compute: compute, rows: ThreadPool.rowChunk, width: width)
        }
        normalized = buffer(configuration.hiddenSize)
        gateUp = buffer(2 * configuration.feedForwardSize)
        activated = buffer(configuration.feedForwardSize)
    }

    static func size(configuration: ModelConfiguration, compute: Compute) -> Int {
        [configuration.hiddenSize, 2 * configuration.feedForwardSize, configuration.feedForwardSize].reduce(0) {
            $0 + ActivationBuffer.size(compute: compute, rows: ThreadPool.rowChunk, width: $1)
        }
    }
}
