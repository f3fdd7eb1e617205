public import LoRAModel
public import LoRAFormats

/// Everything that decides a training run.
public struct TrainingOptions: Sendable {
    public var basePath: String
    public var dataPath: String
    public var outputPath: String

    public var rank = 8
    public var alpha = 16.0
    public var dropout = 0.0
    public var usesRankStabilization = false
    /// Magnitudes beside A and B (DoRA).
    public var decomposesWeights = false
    public var targets: [TargetModule] = TargetModule.attention
    /// Blocks that get pairs; nil for all.
    public var layers: ClosedRange<Int>?
    /// An adapter to start from instead of random A and zero B.
    public var initialAdapterPath: String?
    public var allowsOtherBase = false

    public var length: BatchPlan.Length = .epochs(1)
    public var batchSize = 16
    public var maximumLength = 2048
    public var shuffles = true

    public var learningRate = 1e-3
    public var course: Schedule.Course = .linear
    public var warmup = 0.03
    public var weightDecay = 0.0
    public var maximumGradientNorm = 1.0

    public var compute: Compute = .best
    public var checkpointing: Checkpointing = .auto
    /// Bytes that the process may take.
    public var maximumMemory: Int?
    public var seed: UInt64 = 0
    /// Element type of the file's tensors.
    public var precision: SafetensorsType = .bf16

    public init(basePath: String, dataPath: String, outputPath: String) {
        self.basePath = basePath
        self.dataPath = dataPath
        self.outputPath = outputPath
    }
}
