public import LoRAModel
public import LoRAFormats
public import OrderedCollections

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
    /// Ranks of modules whose names end in what a key, a regular expression, matches (PEFT's `rank_pattern`).
    public var rankPattern: OrderedDictionary<String, Int> = [:]
    /// Alphas, as `rankPattern`.
    public var alphaPattern: OrderedDictionary<String, Double> = [:]
    /// Blocks that get pairs; nil for all.
    public var layers: ClosedRange<Int>?
    /// An adapter to start from instead of random A and zero B.
    public var initialAdapterPath: String?
    public var allowsOtherBase = false

    public var objective = Objective.sft
    /// How strongly DPO holds the adapter to its reference, or the weight of ORPO's odds ratio.
    public var beta = TrainingOptions.defaultBeta
    /// TRL's, for both.
    public static let defaultBeta = 0.1

    public var length: BatchPlan.Length = .epochs(1)
    public var batchSize = 16
    public var maximumLength = 2048
    /// Which answers are learned.
    public var mask: LossMask = .all
    /// What to validate with where the data has no split for it; nil for nothing.
    public var holdOut: HoldOut?
    public var shuffles = true

    public var learningRate = 1e-3
    public var course: Schedule.Course = .linear
    public var warmup = 0.03
    public var weightDecay = 0.0
    /// B's learning rate, as a multiple of A's (LoRA+, arXiv 2402.12354).
    public var loraPlusRatio = 1.0
    public var maximumGradientNorm = 1.0

    /// Steps between validations; nil for one after each epoch. The last step is always followed by one.
    public var evaluationInterval: Int?
    /// Nil for the best where there is validation data, else the last.
    public var keep: Keep?
    /// Validations in a row without a lower loss that end the run; nil for never.
    public var patience: Int?
    /// Steps between checkpoints; nil for one only when the user ends the run.
    public var saveInterval: Int?
    /// Where checkpoints are kept; nil for `<output>.checkpoints`.
    public var checkpointsPath: String?
    /// Whether to go on from the checkpoint that is kept there.
    public var resumes = false
    /// Where `RunLog` writes; nil for nowhere.
    public var logPath: String?
    /// A page about the run; nil for none.
    public var reportPath: String?

    public var compute: Compute = .best
    public var checkpointing: Checkpointing = .auto
    /// Bytes that the process may take.
    public var maximumMemory: Int?
    public var seed: UInt64 = 0
    /// Element type of the file's tensors.
    public var precision: SafetensorsType = .bf16

    /// Which adapter of a run is written.
    public enum Keep: String, Sendable, CaseIterable {
        /// The one with the lowest validation loss.
        case best
        case last
    }

    public init(basePath: String, dataPath: String, outputPath: String) {
        self.basePath = basePath
        self.dataPath = dataPath
        self.outputPath = outputPath
    }
}
