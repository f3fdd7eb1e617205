import CCeilings
import LoRAModel

/// What the matrix product of the library alone reaches at the shapes of a model's blocks.
struct Ceiling: Codable {
    struct Shape: Codable {
        let N: Int
        let K: Int
        /// GFLOP/s with weights as a file has them, and as the library likes them best.
        let rowMajor: Double
        let blocked: Double
    }

    let compute: String
    let shapes: [Shape]
    /// GFLOP/s over all shapes, each as often as in a block.
    let rowMajor: Double
    let blocked: Double
    /// GB/s from memory.
    let readBandwidth: Double

    /// Rows that each thread multiplies: its half of a pass of 1,024 on two cores.
    static let rowsPerThread = 512

    /// - Parameter seconds: for each shape and layout.
    init(_ configuration: ModelConfiguration, _ compute: Compute, threads: Int, seconds: Double = 0.1) {
        let (C, F) = (configuration.hiddenSize, configuration.feedForwardSize)
        let (Q, KV) = (configuration.querySize, configuration.keyValueSize)
        let rate = { (layout: ceiling_layout, N: Int, K: Int) in
            ceiling_product(compute == .bf16 ? 1 : 0, layout, threads, Self.rowsPerThread, N, K, seconds)
        }
        let shapes = [(Q + 2 * KV, C), (C, Q), (2 * F, C), (C, F)].map { N, K in
            Shape(N: N, K: K, rowMajor: rate(CEILING_ROW_MAJOR, N, K), blocked: rate(CEILING_BLOCKED, N, K))
        }
        self.compute = compute.rawValue
        self.shapes = shapes
        rowMajor = Self.mean(shapes, \.rowMajor)
        blocked = Self.mean(shapes, \.blocked)
        readBandwidth = ceiling_read(threads, seconds)
    }

    /// All operations by all seconds: the harmonic mean, weighted by the shapes' operations.
    private static func mean(_ shapes: [Shape], _ rate: (Shape) -> Double) -> Double {
        let work = { (shape: Shape) in Double(shape.N * shape.K) }
        return shapes.reduce(0) { $0 + work($1) } / shapes.reduce(0) { $0 + work($1) / rate($1) }
    }
}
