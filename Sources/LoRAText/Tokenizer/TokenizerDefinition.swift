import LoRAFormats

/// What a GGUF file says about its tokenizer, typed but not yet checked for sense.
struct TokenizerDefinition: Sendable {
    /// `tokenizer.ggml.model`: the algorithm.
    var model = "gpt2"
    /// `tokenizer.ggml.pre`: how text is cut into words.
    var preTokenizer = "smollm"
    var tokens: [String] = []
    /// One GGML token type per token, or empty: all normal.
    var types: [Int32] = []
    /// "left right", best first; SentencePiece's may be left to the scores.
    var merges: [String]?
    /// One score per token, for SentencePiece.
    var scores: [Float]?
    var bosID: Int?
    var eosID: Int?
    var padID: Int?
    /// End of turn and end of message, where the model has them beside EOS.
    var eotID: Int?
    var eomID: Int?
    var unknownID: Int?
    var addsBOS: Bool?
    /// For SentencePiece: `tokenizer.ggml.add_space_prefix`, and `SpacePrefix.metaspaceKey`.
    var addsSpacePrefix: Bool?
    var metaspaceScheme: String?
}

extension TokenizerDefinition {
    /// Reads the `tokenizer.ggml.*` keys.
    /// - Throws: `FormatError` naming the key that is missing or of another type.
    init(metadata: [String: GGUFValue]) throws(FormatError) {
        let reader = MetadataReader(metadata: metadata)
        model = try reader.needed("tokenizer.ggml.model", reader.string)
        // The algorithm decides which other keys exist, so it is refused first.
        switch model {
        case "gpt2":
            preTokenizer = try reader.needed("tokenizer.ggml.pre", reader.string)
            merges = try reader.needed("tokenizer.ggml.merges", reader.strings)
        case "llama":
            merges = try reader.strings("tokenizer.ggml.merges")
            scores = try reader.floats("tokenizer.ggml.scores")
            addsSpacePrefix = try reader.bool("tokenizer.ggml.add_space_prefix")
            metaspaceScheme = try reader.string(SpacePrefix.metaspaceKey)
        default:
            throw FormatError(
                "tokenizer.ggml.model is \(quoted(model)); supported are \"gpt2\" (byte-level BPE) and \"llama\" "
                    + "(SentencePiece's BPE)")
        }
        tokens = try reader.needed("tokenizer.ggml.tokens", reader.strings)
        types = try reader.integers("tokenizer.ggml.token_type") ?? []
        bosID = try reader.integer("tokenizer.ggml.bos_token_id")
        eosID = try reader.integer("tokenizer.ggml.eos_token_id")
        padID = try reader.integer("tokenizer.ggml.padding_token_id")
        eotID = try reader.integer("tokenizer.ggml.eot_token_id")
        unknownID = try reader.integer("tokenizer.ggml.unknown_token_id")
        eomID = try reader.integer("tokenizer.ggml.eom_token_id")
        addsBOS = try reader.bool("tokenizer.ggml.add_bos_token")
    }
}

/// `text` in quotes and short enough for one line of an error, whatever a file put into it.
func quoted(_ text: String) -> String {
    let shown = text.unicodeScalars.prefix(40).map { $0.escaped(asASCII: false) }.joined()
    return "\"\(shown)\(text.unicodeScalars.count > 40 ? "…" : "")\""
}

/// Typed access to metadata, with errors that name the key; nil for a key that is not there.
private struct MetadataReader {
    let metadata: [String: GGUFValue]

    func needed<Value>(
        _ key: String, _ read: (String) throws(FormatError) -> Value?
    ) throws(FormatError) -> Value {
        if let value = try read(key) { return value }
        throw FormatError("the key \(key) is missing, so the file has no usable tokenizer; convert the model again")
    }

    func string(_ key: String) throws(FormatError) -> String? {
        guard let value = metadata[key] else { return nil }
        guard let string = value.stringValue else { throw mismatch(key, "a string") }
        return string
    }

    func strings(_ key: String) throws(FormatError) -> [String]? {
        switch metadata[key] {
        case nil: return nil
        case .strings(let strings): return strings
        default: throw mismatch(key, "an array of strings")
        }
    }

    func floats(_ key: String) throws(FormatError) -> [Float]? {
        switch metadata[key] {
        case nil: return nil
        case .float32s(let values): return values
        default: throw mismatch(key, "an array of 32-bit numbers")
        }
    }

    func integers(_ key: String) throws(FormatError) -> [Int32]? {
        switch metadata[key] {
        case nil: return nil
        case .int32s(let values): return values
        case .array(let values, _):
            var ids: [Int32] = []
            for value in values {
                guard let number = value.intValue, let id = Int32(exactly: number) else {
                    throw mismatch(key, "an array of 32-bit integers")
                }
                ids.append(id)
            }
            return ids
        default: throw mismatch(key, "an array of integers")
        }
    }

    func integer(_ key: String) throws(FormatError) -> Int? {
        guard let value = metadata[key] else { return nil }
        guard let number = value.intValue else { throw mismatch(key, "an integer") }
        return number
    }

    func bool(_ key: String) throws(FormatError) -> Bool? {
        guard let value = metadata[key] else { return nil }
        guard let bool = value.boolValue else { throw mismatch(key, "a bool") }
        return bool
    }

    private func mismatch(_ key: String, _ expected: String) -> FormatError {
        FormatError("the key \(key) is not \(expected); convert the model again")
    }
}
