/// Which modules an adapter's configuration means, by PEFT's rules
/// (https://huggingface.co/docs/peft/developer_guides/lora).
public struct AdapterModuleMatcher {
    private let configuration: AdapterConfiguration
    private let targets: Matcher
    private let excluded: Matcher?
    private let ranks: [(pattern: Regex<AnyRegexOutput>, rank: Int)]
    private let alphas: [(pattern: Regex<AnyRegexOutput>, alpha: Double)]

    private enum Matcher {
        case suffixes([String])
        case pattern(Regex<AnyRegexOutput>)
        case everything

        init(_ modules: AdapterConfiguration.Modules) throws {
            switch modules {
            case .names(let names): self = .suffixes(names)
            case .allLinear: self = .everything
            case .pattern(let text): self = .pattern(try AdapterModuleMatcher.regex(text))
            }
        }

        func matches(_ name: String) -> Bool {
            switch self {
            case .everything: true
            case .suffixes(let suffixes): suffixes.contains { name == $0 || name.hasSuffix("." + $0) }
            case .pattern(let regex): (try? regex.wholeMatch(in: name)) != nil
            }
        }
    }

    /// - Throws: `FormatError` for a pattern that is no regular expression.
    public init(_ configuration: AdapterConfiguration) throws {
        self.configuration = configuration
        targets = try Matcher(configuration.targetModules)
        excluded = try configuration.excludedModules.map { try Matcher($0) }
        ranks = try configuration.rankPattern.map { (try Self.suffixRegex($0.key), $0.value) }
        alphas = try configuration.alphaPattern.map { (try Self.suffixRegex($0.key), $0.value) }
    }

    /// Whether the rows of the adapted matrices have magnitudes.
    public var decomposesWeights: Bool { configuration.decomposesWeights }

    /// Rank and final scale of `module` (such as `model.layers.3.self_attn.q_proj`) in `layer`; nil when the adapter
    /// leaves it alone.
    public func rankAndScale(module: String, layer: Int) -> (rank: Int, scale: Float)? {
        if let layers = configuration.layers, !layers.contains(layer) { return nil }
        if let excluded, excluded.matches(module) { return nil }
        guard targets.matches(module) else { return nil }
        let rank = ranks.first { (try? $0.pattern.wholeMatch(in: module)) != nil }?.rank ?? configuration.rank
        let alpha = alphas.first { (try? $0.pattern.wholeMatch(in: module)) != nil }?.alpha ?? configuration.alpha
        let divisor = configuration.usesRankStabilization ? Double(rank).squareRoot() : Double(rank)
        return (rank, Float(alpha / divisor))
    }

    /// Keys of PEFT's patterns match the end of a name, after a dot.
    private static func suffixRegex(_ key: String) throws -> Regex<AnyRegexOutput> { try regex("(.*\\.)?(\(key))") }

    private static func regex(_ text: String) throws -> Regex<AnyRegexOutput> {
        do { return try Regex(text) } catch {
            throw FormatError("\(FormatError.quoted(text)) is no regular expression that can be used here")
        }
    }
}
