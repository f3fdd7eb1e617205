public import LoRAFormats

/// What a merge did to the tensors it touched.
public struct MergeReport: Sendable {
    /// What became of one tensor's delta Δ, of which Δ′ was stored.
    public struct Tensor: Sendable {
        public let name: String
        public let type: GGUFTensorType
        let moments: RoundingMoments

        /// ⟨Δ, Δ′⟩ / ⟨Δ, Δ⟩: 1 when all of the wanted change is there, 0 when rounding erased it.
        public var survivingShare: Double { moments.survivingShare }
        /// ‖Δ′ − Δ‖ / ‖Δ‖: what is wrong with the stored change, erased and noise.
        public var relativeError: Double { moments.relativeError }
    }

    public internal(set) var tensors: [Tensor] = []
    /// State of the new base, where it replaced the old one.
    public internal(set) var state: FileState?

    private var total: RoundingMoments { tensors.reduce(into: RoundingMoments()) { $0.add($1.moments) } }

    /// As a tensor's, over all of them.
    public var survivingShare: Double { total.survivingShare }
    /// As a tensor's, over all of them.
    public var relativeError: Double { total.relativeError }
    /// The tensor of which least survived.
    public var worst: Tensor? { tensors.min { $0.survivingShare < $1.survivingShare } }
    /// Below this share a merge deserves a warning.
    public static let warningShare = 0.9
}
