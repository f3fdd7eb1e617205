import LoRAModel
import LoRATraining

/// The arithmetic that LoRA training cannot do without, whatever it keeps or computes again.
///
/// The base is frozen, so each weight takes part in two products of two operations (multiply, add): forward, and the
/// gradient of the input on the way back; the gradient of the weight, the third one of full training, is not needed.
/// That makes 4 N for the N weights of the blocks, and 4 for each weight of the head at supervised positions only.
/// Attention works on pairs of a query and a key that is not after it, T² / 2 of a sequence of T: per pair and element
/// of a query, two products forward (scores, values) and four backward (dV, dP, dQ, dK), so 12 operations. It does not
/// count the adapter's own products, nor scores computed again on the way back: both lower the fraction.
struct Floor {
    /// Weights of all blocks.
    private let blockWeights: Double
    private let headWeights: Double
    /// Elements of the queries of one position, over all blocks.
    private let queryElements: Double

    init(_ configuration: ModelConfiguration) {
        let (C, F) = (Double(configuration.hiddenSize), Double(configuration.feedForwardSize))
        let (Q, KV) = (Double(configuration.querySize), Double(configuration.keyValueSize))
        let blocks = Double(configuration.blockCount)
        blockWeights = blocks * (C * (2 * Q + 2 * KV) + 3 * C * F)
        headWeights = C * Double(configuration.vocabularySize)
        queryElements = blocks * Q
    }

    /// GFLOP of a prompt's forward pass with the head at its last token: 2 operations for each weight, and 4 for each
    /// pair and element of a query.
    func prefillGigaflops(_ tokens: Int) -> Double {
        let length = Double(tokens)
        return (2 * blockWeights * length + 2 * headWeights + 2 * queryElements * length * length) * 1e-9
    }

    /// GFLOP for each token of `examples`, those of a step.
    func gigaflopsPerToken(_ examples: [Example]) -> Double {
        let tokens = Double(examples.reduce(0) { $0 + $1.tokens.count })
        let supervised = Double(examples.reduce(0) { $0 + $1.supervisedCount })
        let pairs = examples.reduce(0.0) { $0 + Double($1.tokens.count * $1.tokens.count) / 2 }
        let operations = 4 * blockWeights * tokens + 4 * headWeights * supervised + 12 * queryElements * pairs
        return operations / tokens * 1e-9
    }
}
