public import OrderedCollections

/// How an adapter attaches to its base: the content of PEFT's `adapter_config.json`
/// (https://huggingface.co/docs/peft/package_reference/lora).
public struct AdapterConfiguration: Sendable, Hashable {
    /// A choice of modules, as PEFT writes it.
    public enum Modules: Sendable, Hashable {
        /// Names, each meaning a module of that name or one that ends in it after a dot.
        case names([String])
        /// A regular expression that the whole module name matches.
        case pattern(String)
        /// Every linear layer but the output head.
        case allLinear
    }

    /// `base_model_name_or_path`.
    public var baseModel: String?
    /// `r`, where `rankPattern` says nothing else.
    public var rank: Int
    /// `lora_alpha`, where `alphaPattern` says nothing else.
    public var alpha: Double
    /// `lora_dropout`: the share of inputs dropped in training.
    public var dropout: Double
    /// `use_rslora`: the scale is alpha / sqrt(r) in place of alpha / r (arXiv 2312.03732).
    public var usesRankStabilization: Bool
    /// `use_dora`: rows of the adapted matrix have learned magnitudes (arXiv 2402.09353).
    public var decomposesWeights: Bool
    /// `target_modules`.
    public var targetModules: Modules
    /// `exclude_modules`.
    public var excludedModules: Modules?
    /// `layers_to_transform`: only these layers.
    public var layers: [Int]?
    /// `layers_pattern`: names of the list of layers that `layers` counts in.
    public var layersPatterns: [String]
    /// `rank_pattern`: keys are regular expressions that the end of a module name matches, after a dot.
    public var rankPattern: OrderedDictionary<String, Int>
    /// `alpha_pattern`, keys as in `rankPattern`.
    public var alphaPattern: OrderedDictionary<String, Double>

    public init(
        rank: Int, alpha: Double, targetModules: Modules, dropout: Double = 0, usesRankStabilization: Bool = false,
        decomposesWeights: Bool = false, baseModel: String? = nil
    ) {
        self.baseModel = baseModel
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.usesRankStabilization = usesRankStabilization
        self.decomposesWeights = decomposesWeights
        self.targetModules = targetModules
        excludedModules = nil
        layers = nil
        layersPatterns = []
        rankPattern = [:]
        alphaPattern = [:]
    }

    /// The content of `adapter_config.json`, with what PEFT needs and what differs from its defaults.
    public var json: JSONValue {
        var members: OrderedDictionary<String, JSONValue> = [
            "alpha_pattern": .object(alphaPattern.mapValues(Self.json)),
            "base_model_name_or_path": baseModel.map { .string($0) } ?? .null,
            "bias": .string("none"),
            "fan_in_fan_out": .bool(false),
            "inference_mode": .bool(true),
            "init_lora_weights": .bool(true),
            "lora_alpha": Self.json(alpha),
            "lora_dropout": Self.json(dropout),
            "peft_type": .string("LORA"),
            "r": .integer(Int64(rank)),
            "rank_pattern": .object(rankPattern.mapValues { .integer(Int64($0)) }),
            "target_modules": targetModules.json,
            "task_type": .string("CAUSAL_LM"),
            "use_dora": .bool(decomposesWeights),
            "use_rslora": .bool(usesRankStabilization),
        ]
        if let excludedModules { members["exclude_modules"] = excludedModules.json }
        if let layers { members["layers_to_transform"] = .array(layers.map { .integer(Int64($0)) }) }
        if !layersPatterns.isEmpty { members["layers_pattern"] = .array(layersPatterns.map { .string($0) }) }
        return .object(members)
    }

    /// PEFT writes whole numbers as integers.
    private static func json(_ number: Double) -> JSONValue {
        Int64(exactly: number).map { .integer($0) } ?? .number(number)
    }
}

extension AdapterConfiguration.Modules {
    var json: JSONValue {
        switch self {
        case .names(let names): .array(names.map { .string($0) })
        case .pattern(let pattern): .string(pattern)
        case .allLinear: .string("all-linear")
        }
    }
}
