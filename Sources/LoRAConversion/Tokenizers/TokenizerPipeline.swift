import LoRAFormats
import LoRAText

/// What tokenizer.json does to a text before and while BPE merges, recognised from its steps.
struct TokenizerPipeline {
    /// `tokenizer.ggml.model`.
    let model: String
    /// `tokenizer.ggml.pre`.
    let preTokenizer: String
    let spacePrefix: SpacePrefix

    var isSentencePiece: Bool { model == "llama" }

    /// - Throws: `FormatError` that shows the steps when they are not among the known ones.
    init(_ json: JSONValue) throws(FormatError) {
        guard let bpe = json["model"], bpe["type"]?.stringValue ?? "BPE" == "BPE", bpe["merges"] != nil else {
            throw FormatError(
                "model.type is \(Self.shown(json["model"]?["type"])); only \"BPE\" is supported (Unigram and WordPiece "
                    + "give other ids)")
        }
        try Self.checkOptions(of: bpe)
        let normalizers = try Self.steps(json["normalizer"], list: "normalizers")
        let preTokenizers = try Self.steps(json["pre_tokenizer"], list: "pretokenizers")
        let ignoresMerges = bpe["ignore_merges"]?.boolValue ?? false
        let fallsBack = bpe["byte_fallback"]?.boolValue ?? false
        if fallsBack {
            guard let prefix = Self.sentencePiece[normalizers + ["|"] + preTokenizers], !ignoresMerges else {
                throw Self.unknown(normalizers, preTokenizers, ignoresMerges)
            }
            (model, preTokenizer, spacePrefix) = ("llama", "default", prefix)
        } else {
            guard let name = Self.byteLevel[normalizers + ["|"] + preTokenizers],
                ignoresMerges == (name == "llama-bpe")
            else { throw Self.unknown(normalizers, preTokenizers, ignoresMerges) }
            (model, preTokenizer, spacePrefix) = ("gpt2", name, .none)
        }
    }

    /// Options of the model that would change the ids.
    private static func checkOptions(of bpe: JSONValue) throws(FormatError) {
        var wrong: [String] = []
        if let dropout = bpe["dropout"]?.doubleValue, dropout != 0 { wrong.append("dropout \(dropout)") }
        for name in ["continuing_subword_prefix", "end_of_word_suffix"] {
            if let text = bpe[name]?.stringValue, !text.isEmpty { wrong.append("\(name) \(shown(bpe[name]))") }
        }
        guard wrong.isEmpty else {
            throw FormatError("model has \(wrong.joined(separator: " and ")), which GGUF cannot express")
        }
    }

    private static func unknown(_ normalizers: [String], _ preTokenizers: [String], _ ignoresMerges: Bool)
        -> FormatError
    {
        func list(_ steps: [String]) -> String { steps.isEmpty ? "none" : steps.joined(separator: ", then ") }
        return FormatError(
            "the normalizer (\(list(normalizers))) with the pre_tokenizer (\(list(preTokenizers)))"
                + (ignoresMerges ? " and ignore_merges" : "")
                + " is none that is known; supported are those of SmolLM, GPT-2, Llama 2 and 3, Mistral, Gemma and "
                + "Qwen 2, and another one would give the model ids it was not trained on")
    }
}

extension TokenizerPipeline {
    /// The pre-tokenizers by their steps; `|` stands between normaliser and pre-tokenizer.
    private static let byteLevel: [[String]: String] = [
        ["|", "Digits one by one", "ByteLevel with pattern"]: "smollm",
        ["|", "ByteLevel with pattern"]: "gpt-2",
        ["|", split(gpt2), "ByteLevel"]: "gpt-2",
        ["|", split(withDigitRuns("{1,3}")), "ByteLevel"]: "llama-bpe",
        ["NFC", "|", split(withDigitRuns("")), "ByteLevel"]: "qwen2",
        ["|", split(withDigitRuns("")), "ByteLevel"]: "deepseek-r1-qwen",
    ]

    private static let sentencePiece: [[String]: SpacePrefix] = [
        ["Prepend '▁'", "Replace ' ' by '▁'", "|"]: .always,
        ["Replace ' ' by '▁'", "|"]: .none,
        ["Replace ' ' by '▁'", "|", "Split at ' ' (MergedWithPrevious)"]: .none,
        ["|", "Metaspace never"]: .none,
        ["|", "Metaspace always"]: .metaspaceAlways,
        ["|", "Metaspace first"]: .metaspaceFirst,
    ]

    /// What the patterns look like in tokenizer.json; `PreTokenizer` has forms of its own that match the same.
    static let gpt2 =
        #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#
    static func withDigitRuns(_ repetition: String) -> String {
        #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"# + repetition
            + #"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
    }
    private static func split(_ pattern: String) -> String { "Split by /\(pattern)/" }

    /// The steps of a normaliser or pre-tokenizer, sequences laid flat, each in words.
    private static func steps(_ json: JSONValue?, list: String, depth: Int = 0) throws(FormatError) -> [String] {
        guard let json, !json.isNull else { return [] }
        guard json["type"]?.stringValue == "Sequence" else { return [describe(json)] }
        guard let parts = json[list]?.arrayValue, depth < 8 else {
            throw FormatError("a Sequence has no \(list), or sequences are nested too deeply")
        }
        var all: [String] = []
        for part in parts { all += try steps(part, list: list, depth: depth + 1) }
        return all
    }

    private static func describe(_ step: JSONValue) -> String {
        switch step["type"]?.stringValue {
        case "NFC": return "NFC"
        case "Prepend": return "Prepend \(shown(step["prepend"]))"
        case "Replace": return "Replace \(shown(step["pattern"]?["String"])) by \(shown(step["content"]))"
        case "Digits" where step["individual_digits"]?.boolValue == true: return "Digits one by one"
        case "ByteLevel" where step["add_prefix_space"]?.boolValue == false:
            return step["use_regex"]?.boolValue ?? true ? "ByteLevel with pattern" : "ByteLevel"
        case "Split": return describe(split: step)
        case "Metaspace" where step["split"]?.boolValue == false && step["replacement"]?.stringValue == "▁":
            if let scheme = step["prepend_scheme"]?.stringValue { return "Metaspace \(scheme)" }
        default: break
        }
        return String(step.serialized().prefix(400))
    }

    private static func describe(split step: JSONValue) -> String {
        let behavior = step["behavior"]?.stringValue ?? ""
        let isInverted = step["invert"]?.boolValue ?? false
        if let regex = step["pattern"]?["Regex"]?.stringValue {
            // These patterns match everything, so keeping the matches alone is the same.
            if (behavior, isInverted) == ("Isolated", false) || (behavior, isInverted) == ("Removed", true) {
                return split(regex)
            }
        } else if let text = step["pattern"]?["String"]?.stringValue, !isInverted {
            return "Split at '\(text)' (\(behavior))"
        }
        return String(step.serialized().prefix(400))
    }

    private static func shown(_ value: JSONValue?) -> String {
        value?.stringValue.map { FormatError.quoted($0) } ?? value?.kind ?? "missing"
    }
}
