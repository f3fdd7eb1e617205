/// Which modules an adapter's configuration means, by PEFT's rules
/// (https://huggingface.co/docs/peft/developer_guides/lora).
public struct AdapterModuleMatcher {
    private let configuration: AdapterConfiguration
    private let targets: Matcher
    private let excluded: Matcher?
    /// What stands before the number of a layer that `layers` counts; none when any name may.
    private let layerLists: [ModulePattern]
    private let ranks: [(pattern: ModulePattern, rank: Int)]
    private let alphas: [(pattern: ModulePattern, alpha: Double)]

    private enum Matcher {
        case names([String])
        case pattern(ModulePattern)
        case everything

        init(_ modules: AdapterConfiguration.Modules) throws {
            switch modules {
            case .names(let names): self = .names(names)
            case .allLinear: self = .everything
            case .pattern(let text): self = .pattern(try ModulePattern(text))
            }
        }

        func matches(_ name: String) -> Bool {
            switch self {
            case .everything: true
            case .names(let names): names.contains { name == $0 || name.hasSuffix("." + $0) }
            case .pattern(let pattern): pattern.matches(name)
            }
        }

        /// A module that is named in full is meant whatever its layer is.
        func matchesInFull(_ name: String) -> Bool {
            if case .names(let names) = self { names.contains(name) } else { false }
        }
    }

    /// - Throws: `FormatError` for a pattern that is no regular expression.
    public init(_ configuration: AdapterConfiguration) throws {
        self.configuration = configuration
        targets = try Matcher(configuration.targetModules)
        excluded = try configuration.excludedModules.map { try Matcher($0) }
        layerLists = try configuration.layersPatterns.map { try ModulePattern("(?:^|.*?\\.)(?:\($0))\\.\\d+\\.") }
        ranks = try configuration.rankPattern.map { (try Self.suffix($0.key), $0.value) }
        alphas = try configuration.alphaPattern.map { (try Self.suffix($0.key), $0.value) }
    }

    /// Whether the rows of the adapted matrices have magnitudes.
    public var decomposesWeights: Bool { configuration.decomposesWeights }

    /// Rank and final scale of `module` (such as `model.layers.3.self_attn.q_proj`) in `layer`; nil when the adapter
    /// leaves it alone.
    public func rankAndScale(module: String, layer: Int) -> (rank: Int, scale: Float)? {
        if let excluded, excluded.matches(module) { return nil }
        guard targets.matchesInFull(module) || targets.matches(module) && isMeant(layer, of: module) else { return nil }
        let rank = ranks.first { $0.pattern.matches(module) }?.rank ?? configuration.rank
        let alpha = alpha(of: module)
        let divisor = configuration.usesRankStabilization ? Double(rank).squareRoot() : Double(rank)
        return (rank, Float(alpha / divisor))
    }

    /// Alpha of `module`, whose name is in full.
    public func alpha(of module: String) -> Double {
        alphas.first { $0.pattern.matches(module) }?.alpha ?? configuration.alpha
    }

    private func isMeant(_ layer: Int, of module: String) -> Bool {
        guard let layers = configuration.layers else { return true }
        return layers.contains(layer)
            && (layerLists.isEmpty || layerLists.contains { $0.matchesBeginning(of: module) })
    }

    /// Keys of PEFT's patterns match the end of a name, after a dot.
    private static func suffix(_ key: String) throws -> ModulePattern { try ModulePattern("(?:.*\\.)?(?:\(key))") }
}
