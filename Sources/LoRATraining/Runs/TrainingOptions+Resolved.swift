public import LoRAFormats
internal import LoRAModel
public import OrderedCollections

extension TrainingOptions {
    /// The configuration that the adapter's file will have.
    var adapterConfiguration: AdapterConfiguration {
        var configuration = AdapterConfiguration(
            rank: rank, alpha: alpha, targetModules: .names(targets.map(\.rawValue)), dropout: dropout,
            usesRankStabilization: usesRankStabilization, decomposesWeights: decomposesWeights)
        if let layers { configuration.layers = Array(layers) }
        configuration.rankPattern = rankPattern
        configuration.alphaPattern = alphaPattern
        return configuration
    }

    /// The options that decide what a run computes, by their names on the command line. Where files are is not among
    /// them: what is in them is compared by digests.
    public var resolved: OrderedDictionary<String, JSONValue> {
        var options = initialAdapterPath == nil ? adapterOptions : [:]
        options["dropout"] = .number(dropout)
        switch length {
        case .epochs(let count): options["epochs"] = .integer(Int64(count))
        case .steps(let count): options["steps"] = .integer(Int64(count))
        }
        let rest: OrderedDictionary<String, JSONValue> = [
            "batch-size": .integer(Int64(batchSize)),
            "max-length": .integer(Int64(maximumLength)),
            "mask": .string(mask.rawValue),
            "shuffle": .bool(shuffles),
            "learning-rate": .number(learningRate),
            "schedule": .string(course.rawValue),
            "warmup": .number(warmup),
            "weight-decay": .number(weightDecay),
            "max-grad-norm": .number(maximumGradientNorm),
            "lora-plus-ratio": .number(loraPlusRatio),
            "compute": .string(compute.rawValue),
            "checkpointing": .string(checkpointing.rawValue),
            // Not every 64-bit seed is a number of JSON.
            "seed": .string(String(seed)),
            "precision": .string(precision.rawValue.lowercased()),
        ]
        options.merge(rest) { $1 }
        switch holdOut {
        case .share(let share)?: options["hold-out"] = .number(share)
        case .count(let count)?: options["hold-out"] = .integer(Int64(count))
        case nil: break
        }
        if objective.comparesAnswers {
            options["objective"] = .string(objective.rawValue)
            options["beta"] = .number(beta)
        }
        if let maximumMemory { options["max-memory"] = .integer(Int64(maximumMemory)) }
        if let evaluationInterval { options["eval-every"] = .integer(Int64(evaluationInterval)) }
        if let keep { options["keep"] = .string(keep.rawValue) }
        if let patience { options["patience"] = .integer(Int64(patience)) }
        return options
    }

    /// What an initial adapter brings with it.
    private var adapterOptions: OrderedDictionary<String, JSONValue> {
        var options: OrderedDictionary<String, JSONValue> = [
            "rank": .integer(Int64(rank)),
            "alpha": .number(alpha),
            "rslora": .bool(usesRankStabilization),
            "dora": .bool(decomposesWeights),
            "target": .string(targets.map(\.rawValue).joined(separator: ",")),
            "layers": .string(layers.map { "\($0.lowerBound)-\($0.upperBound)" } ?? "all"),
        ]
        if !rankPattern.isEmpty { options["rank-pattern"] = .object(rankPattern.mapValues { .integer(Int64($0)) }) }
        if !alphaPattern.isEmpty { options["alpha-pattern"] = .object(alphaPattern.mapValues { .number($0) }) }
        return options
    }
}
