/// One A/B pair: where it is, and how it enters the sum y = W x + scale · B (A x) (arXiv 2106.09685).
public struct LowRankPair: Sendable, Equatable {
    public let block: Int
    public let target: TargetModule
    public let rank: Int
    /// alpha / r, or alpha / sqrt(r) for rsLoRA (arXiv 2312.03732).
    public let scale: Float
    public let inputs: Int
    public let outputs: Int
    /// Of A (r, in) in the adapter's parameters; B (out, r) follows it, then the row factors (out) where there are any.
    public let offset: Int
    public let rowFactors: RowFactors

    public var countA: Int { rank * inputs }
    public var countB: Int { outputs * rank }
    public var offsetB: Int { offset + countA }
    public var offsetRowFactors: Int { offsetB + countB }
    public var countRowFactors: Int { rowFactors == .none ? 0 : outputs }
    public var count: Int { countA + countB + countRowFactors }
    public var end: Int { offset + count }

    /// Hugging Face's name of the projection.
    public var moduleName: String { target.moduleName(block: block) }
    public var nameA: String { "base_model.model.\(moduleName).lora_A.weight" }
    public var nameB: String { "base_model.model.\(moduleName).lora_B.weight" }
    public var nameMagnitudes: String { "base_model.model.\(moduleName).lora_magnitude_vector" }
}

/// What an adapter holds for each row of a projection beside A and B.
public enum RowFactors: Sendable {
    /// Nothing: y = W x + s · B A x.
    case none
    /// Magnitudes m: y = m / |W + s · B A| (W x + s · B A x), the norms being those of rows (DoRA, arXiv 2402.09353).
    case magnitudes
    /// Gains g of the base: y = g W x + s · B A x. What magnitudes come to once nothing is learned any more.
    case gains
}

/// The pairs of an adapter, in the order of blocks and of `TargetModule`, end to end in one array of parameters.
public struct AdapterLayout: Sendable, Equatable {
    public let pairs: [LowRankPair]
    public let parameterCount: Int
    /// Of every pair.
    public let rowFactors: RowFactors
    /// Index into `pairs`, by block and target; -1 for none.
    private let indices: [Int]
    /// Index of each block's first pair, and one more for the end.
    private let blockStarts: [Int]

    /// - Parameter rankAndScale: nil where a projection gets no pair.
    public init(
        configuration: ModelConfiguration, rowFactors: RowFactors = .none,
        rankAndScale: (_ block: Int, _ target: TargetModule) -> (rank: Int, scale: Float)?
    ) {
        var pairs: [LowRankPair] = []
        var indices: [Int] = []
        var offset = 0
        var blockStarts: [Int] = []
        for block in 0..<configuration.blockCount {
            blockStarts.append(pairs.count)
            for target in TargetModule.allCases {
                guard let (rank, scale) = rankAndScale(block, target) else {
                    indices.append(-1)
                    continue
                }
                let shape = target.shape(in: configuration)
                let pair = LowRankPair(
                    block: block, target: target, rank: rank, scale: scale, inputs: shape.inputs,
                    outputs: shape.outputs, offset: offset, rowFactors: rowFactors)
                indices.append(pairs.count)
                pairs.append(pair)
                offset = pair.end
            }
        }
        self.pairs = pairs
        self.indices = indices
        self.blockStarts = blockStarts + [pairs.count]
        parameterCount = offset
        self.rowFactors = rowFactors
    }

    /// The pair of a projection, if it has one.
    public func pair(block: Int, _ target: TargetModule) -> LowRankPair? {
        let slot = block * TargetModule.allCases.count + target.slot
        return indices[slot] < 0 ? nil : pairs[indices[slot]]
    }

    /// The pairs of one block.
    public func pairs(block: Int) -> ArraySlice<LowRankPair> { pairs[blockStarts[block]..<blockStarts[block + 1]] }

    public var largestRank: Int { pairs.reduce(0) { max($0, $1.rank) } }
    /// Parameters of the block that has most.
    var largestBlockCount: Int {
        Dictionary(grouping: pairs, by: \.block).values.reduce(0) { max($0, $1.reduce(0) { $0 + $1.count }) }
    }
}

extension TargetModule {
    /// Position in `allCases`.
    var slot: Int {
        switch self {
        case .queryProjection: 0
        case .keyProjection: 1
        case .valueProjection: 2
        case .outputProjection: 3
        case .gateProjection: 4
        case .upProjection: 5
        case .downProjection: 6
        }
    }
}
