import ArgumentParser
import LoRAModel
import OrderedCollections

/// What the adapter is and what it learns from.
struct AdapterOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The base model, a GGUF file.", valueName: "file"))
    var base: String

    @Option(help: ArgumentHelp("A directory with train.jsonl, or one JSONL file.", valueName: "path"))
    var data: String

    @Option(help: ArgumentHelp("The adapter to write (default: adapters/<name of the data>.lora).", valueName: "file"))
    var output: String?

    @Option(help: "Rank of A and B (default: 8).")
    var rank: Int?

    @Option(help: "The branch is scaled by alpha / rank (default: 16).")
    var alpha: Double?

    @Option(help: "Share of the branch's inputs dropped in training.")
    var dropout = 0.0

    @Flag(help: "Scale by alpha / sqrt(rank) (rsLoRA).")
    var rslora = false

    @Flag(help: "Learn a magnitude for each row of the adapted matrices too (DoRA).")
    var dora = false

    @Option(
        help: ArgumentHelp(
            "attention, all-linear, or names such as q_proj,v_proj (default: attention).", valueName: "modules"))
    var target: TargetOption?

    @Option(
        help: ArgumentHelp("Blocks that get pairs: all, or a range such as 10-29 (default: all).", valueName: "range"))
    var layers: LayersOption?

    @Option(
        help: ArgumentHelp("Ranks of modules by the ends of their names (PEFT's rank_pattern).", valueName: "name=n,…"))
    var rankPattern: PatternOption?

    @Option(help: ArgumentHelp("Alphas, as --rank-pattern.", valueName: "name=x,…"))
    var alphaPattern: PatternOption?

    @Option(help: ArgumentHelp("Go on from this adapter, with its ranks, scales and modules.", valueName: "file"))
    var initAdapter: String?

    @OptionGroup var otherBase: OtherBaseOptions

    func validate() throws {
        if let rank, !(1...4096).contains(rank) { throw ValidationError("--rank must be from 1 to 4096") }
        if let alpha, !(alpha.isFinite && alpha > 0) { throw ValidationError("--alpha must be above 0") }
        guard (0..<1).contains(dropout) else { throw ValidationError("--dropout must be at least 0 and below 1") }
        let ranks = rankPattern.map { Array($0.values.values) } ?? []
        guard ranks.allSatisfy({ $0 == $0.rounded() && (1...4096).contains($0) }) else {
            throw ValidationError("--rank-pattern must have whole numbers from 1 to 4096")
        }
        guard alphaPattern?.values.values.allSatisfy({ $0 > 0 }) ?? true else {
            throw ValidationError("--alpha-pattern must have numbers above 0")
        }
        if initAdapter != nil, let name = namesOfShape.first {
            throw ValidationError("--init-adapter excludes \(name): the adapter has its own")
        }
    }

    /// The options that were given of those that say what a new adapter looks like.
    private var namesOfShape: [String] {
        [
            ("--rank", rank != nil), ("--alpha", alpha != nil), ("--rslora", rslora), ("--dora", dora),
            ("--target", target != nil), ("--layers", layers != nil), ("--rank-pattern", rankPattern != nil),
            ("--alpha-pattern", alphaPattern != nil),
        ].filter(\.1).map(\.0)
    }
}

/// `NAME=NUMBER,…`: names are regular expressions for the ends of modules' names.
struct PatternOption: ExpressibleByArgument {
    let values: OrderedDictionary<String, Double>

    init?(argument: String) {
        var values: OrderedDictionary<String, Double> = [:]
        for part in argument.split(separator: ",", omittingEmptySubsequences: false) {
            guard let sign = part.lastIndex(of: "="), sign > part.startIndex,
                let number = Double(part[part.index(after: sign)...]), number.isFinite,
                values.updateValue(number, forKey: String(part[..<sign])) == nil
            else { return nil }
        }
        self.values = values
    }
}

/// `attention`, `all-linear`, or a list of PEFT's names.
struct TargetOption: ExpressibleByArgument {
    let modules: [TargetModule]

    init?(argument: String) {
        switch argument {
        case "attention": modules = TargetModule.attention
        case "all-linear": modules = TargetModule.allCases
        default:
            let names = argument.split(separator: ",", omittingEmptySubsequences: false)
            let found = names.compactMap { TargetModule(rawValue: String($0)) }
            guard found.count == names.count, Set(found).count == found.count else { return nil }
            modules = TargetModule.allCases.filter(found.contains)
        }
    }
}

/// `all`, one block, or a range of blocks.
struct LayersOption: ExpressibleByArgument {
    /// Nil for all.
    let range: ClosedRange<Int>?

    init?(argument: String) {
        if argument == "all" { range = nil; return }
        let ends = argument.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
        guard let first = ends.first, let lower = first, ends.count <= 2, let last = ends.last, let upper = last,
            lower >= 0, lower <= upper
        else { return nil }
        range = lower...upper
    }
}
