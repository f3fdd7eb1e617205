import LoRAFormats

/// How the deltas of several adapters become one.
public enum MergeMethod: Sendable, Hashable, CustomStringConvertible {
    /// Σ wᵢ · Δᵢ.
    case linear
    /// Each delta keeps its `density` · n largest values; at every place the values that have the sign of their sum are
    /// averaged, each times its weight (TIES, arXiv 2306.01708; as PEFT's `ties`, on whole deltas).
    case ties(density: Double)
    /// Each delta keeps a random share `density` of its values, divided by it; then as linear (DARE, arXiv 2311.03099).
    case dare(density: Double, seed: UInt64)

    public var name: String {
        switch self {
        case .linear: "linear"
        case .ties: "ties"
        case .dare: "dare"
        }
    }

    public var description: String {
        switch self {
        case .linear: "linear"
        case .ties(let density): "ties, density \(density)"
        case .dare(let density, let seed): "dare, density \(density), seed \(seed)"
        }
    }
}

/// The type of the tensors that a merge touches.
public enum MergeType: String, Sendable, CaseIterable {
    case same, f32, f16, bf16, q8_0

    /// What a tensor of type `type` becomes.
    func type(from type: GGUFTensorType) -> GGUFTensorType {
        switch self {
        case .same: type
        case .f32: .f32
        case .f16: .f16
        case .bf16: .bf16
        case .q8_0: .q8_0
        }
    }
}

extension TargetModule {
    /// The projection whose weight GGUF calls `name`, such as `blk.3.attn_q.weight`; nil for every other tensor.
    static func projection(ofWeight name: String) -> (block: Int, target: TargetModule)? {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4, parts[0] == "blk", parts[3] == "weight", let block = Int(parts[1]),
            let target = allCases.first(where: { $0.ggufName == parts[2] })
        else { return nil }
        return (block, target)
    }
}
