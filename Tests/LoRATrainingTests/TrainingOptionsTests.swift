import LoRAFormats
import LoRAModel
import OrderedCollections
import Testing

@testable import LoRATraining

@Suite("Training options")
struct TrainingOptionsTests {
    private static let changes: [(name: String, change: @Sendable (inout TrainingOptions) -> Void)] = [
        ("rank", { $0.rank = 9 }), ("alpha", { $0.alpha = 9 }), ("dropout", { $0.dropout = 0.5 }),
        ("rslora", { $0.usesRankStabilization = true }), ("dora", { $0.decomposesWeights = true }),
        ("target", { $0.targets = [.downProjection] }), ("layers", { $0.layers = 1...2 }),
        ("rank-pattern", { $0.rankPattern = ["v_proj": 2] }), ("alpha-pattern", { $0.alphaPattern = ["v_proj": 2] }),
        ("epochs", { $0.length = .epochs(9) }), ("batch-size", { $0.batchSize = 9 }),
        ("max-length", { $0.maximumLength = 9 }), ("shuffle", { $0.shuffles = false }),
        ("learning-rate", { $0.learningRate = 9 }), ("schedule", { $0.course = .cosine }),
        ("warmup", { $0.warmup = 0.5 }), ("weight-decay", { $0.weightDecay = 0.5 }),
        ("max-grad-norm", { $0.maximumGradientNorm = 9 }), ("lora-plus-ratio", { $0.loraPlusRatio = 9 }),
        ("checkpointing", { $0.checkpointing = .on }), ("max-memory", { $0.maximumMemory = 1 << 30 }),
        ("seed", { $0.seed = .max }), ("precision", { $0.precision = .f32 }),
        ("eval-every", { $0.evaluationInterval = 9 }), ("keep", { $0.keep = .last }),
        ("patience", { $0.patience = 9 }), ("mask", { $0.mask = .last }), ("hold-out", { $0.holdOut = .count(9) }),
    ]

    private let plain = TrainingOptions(basePath: "b", dataPath: "d", outputPath: "o")

    @Test("An option that decides what a run computes is resolved under its name, and alone")
    func deciding() {
        for (name, change) in Self.changes {
            var options = plain
            change(&options)
            let (before, after) = (plain.resolved, options.resolved)
            let changed = OrderedSet(before.keys).union(after.keys).filter { before[$0] != after[$0] }
            #expect(Array(changed) == [name])
        }
        var steps = plain
        steps.length = .steps(1)
        #expect(steps.resolved["steps"] == .integer(1) && steps.resolved["epochs"] == nil)
    }

    @Test("Where files are and how often a run is saved decide nothing")
    func neutral() {
        var options = TrainingOptions(basePath: "c", dataPath: "e", outputPath: "p")
        (options.saveInterval, options.checkpointsPath, options.resumes, options.logPath) = (3, "c", true, "l")
        #expect(options.resolved == plain.resolved)
    }
}
