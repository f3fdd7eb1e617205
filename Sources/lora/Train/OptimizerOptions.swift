import ArgumentParser
import LoRATraining

/// How it is optimised.
struct OptimizerOptions: ParsableArguments {
    @Option(help: "Times through the data (default: 1).")
    var epochs: Int?

    @Option(help: "Optimizer steps, instead of epochs.")
    var steps: Int?

    @Option(help: "Examples per optimizer step.")
    var batchSize = 16

    @Option(help: "Rows with more tokens are skipped.")
    var maxLength = 2048

    @Flag(inversion: .prefixedNo, help: "A new order of the data in each epoch.")
    var shuffle = true

    @Option(help: "The highest learning rate.")
    var learningRate = 1e-3

    @Option(help: "What the learning rate does after the warm-up: linear, cosine or constant.")
    var schedule = Schedule.Course.linear

    @Option(help: "Share of the steps in which the learning rate rises.")
    var warmup = 0.03

    @Option(help: "Decoupled weight decay.")
    var weightDecay = 0.0

    @Option(help: "Gradients are scaled down to this norm; 0 for never.")
    var maxGradNorm = 1.0

    @Option(help: "B's learning rate, as a multiple of A's (LoRA+).")
    var loraPlusRatio = 1.0

    func validate() throws {
        if epochs != nil, steps != nil { throw ValidationError("--epochs and --steps exclude each other") }
        for (name, value) in [("--epochs", epochs), ("--steps", steps)] {
            if let value, !(1...1_000_000_000).contains(value) {
                throw ValidationError("\(name) must be from 1 to 1000000000")
            }
        }
        guard (1...1_000_000).contains(batchSize) else {
            throw ValidationError("--batch-size must be from 1 to 1000000")
        }
        guard (2...1 << 24).contains(maxLength) else {
            throw ValidationError("--max-length must be from 2 to \(1 << 24)")
        }
        guard learningRate.isFinite, learningRate > 0 else { throw ValidationError("--learning-rate must be above 0") }
        guard loraPlusRatio.isFinite, loraPlusRatio > 0 else {
            throw ValidationError("--lora-plus-ratio must be above 0")
        }
        guard (0...1).contains(warmup) else { throw ValidationError("--warmup must be from 0 to 1") }
        guard weightDecay.isFinite, weightDecay >= 0 else {
            throw ValidationError("--weight-decay must not be negative")
        }
        guard maxGradNorm.isFinite, maxGradNorm >= 0 else {
            throw ValidationError("--max-grad-norm must not be negative")
        }
    }
}
