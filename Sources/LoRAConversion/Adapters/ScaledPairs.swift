import LoRAFormats
import LoRAModel

/// The pairs of an adapter for a format that has one factor for all of them: the one that most pairs have, and for each
/// pair what its B is multiplied with to make up for the difference.
struct ScaledPairs {
    let adapter: AdapterFile
    let layout: AdapterLayout
    /// Never zero.
    let factor: Double
    /// Of the first A.
    let type: SafetensorsType
    private let ratios: [String: Double]

    /// - Parameter factorOf: the format's factor for a pair's alpha, rank, and whether it is rank-stabilised.
    /// - Throws: `FormatError` when the adapter is more than pairs of A and B.
    init(
        _ adapter: AdapterFile, configuration: ModelConfiguration,
        factorOf: (_ alpha: Double, _ rank: Int, _ isStabilized: Bool) -> Double
    ) throws {
        guard !adapter.configuration.decomposesWeights else {
            throw FormatError(
                "is a DoRA adapter (use_dora), whose magnitudes have no place in this format; "
                    + "export it as peft, or merge it into the base")
        }
        let matcher = try AdapterModuleMatcher(adapter.configuration)
        let layout = AdapterLayout(configuration: configuration, matcher: matcher)
        let isStabilized = adapter.configuration.usesRankStabilization
        let factors = layout.pairs.map { factorOf(matcher.alpha(of: $0.moduleName), $0.rank, isStabilized) }
        let factor = factors.filter { $0 != 0 }.mostFrequent ?? 1
        self.adapter = adapter
        self.layout = layout
        self.factor = factor
        type = layout.pairs.first.flatMap { adapter.tensors.tensor(named: $0.nameA)?.type } ?? .f32
        ratios = Dictionary(uniqueKeysWithValues: zip(layout.pairs.map(\.nameB), factors.map { $0 / factor }))
    }

    /// B (out, r) with what its factor differs from the common one by; as it is stored where nothing differs.
    func matrixB(of pair: LowRankPair) throws -> NamedTensor {
        try adapter.tensors.named(pair.nameB).scaled(by: ratios[pair.nameB] ?? 1)
    }
}
