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
    /// "left right", best first.
    var merges: [String] = []
    var bosID: Int?
    var eosID: Int?
    var padID: Int?
    /// End of turn and end of message, where the model has them beside EOS.
    var eotID: Int?
    var eomID: Int?
    var addsBOS: Bool?
}

extension TokenizerDefinition {
    /// Reads the `tokenizer.ggml.*` keys.
    /// - Throws: `FormatError` naming the key that is missing or of another type.
    init(gguf: GGUFFile) throws {
        let reader = MetadataReader(metadata: gguf.metadata, path: gguf.path)
        model = try reader.string("tokenizer.ggml.model")
        // The algorithm decides which other keys exist, so it is refused first.
        try TokenizerDefinition.checkModel(model, file: gguf.path)
        preTokenizer = try reader.string("tokenizer.ggml.pre")
        tokens = try reader.strings("tokenizer.ggml.tokens")
        types = try reader.integers("tokenizer.ggml.token_type") ?? []
        merges = try reader.strings("tokenizer.ggml.merges")
        bosID = try reader.integer("tokenizer.ggml.bos_token_id")
        eosID = try reader.integer("tokenizer.ggml.eos_token_id")
        padID = try reader.integer("tokenizer.ggml.padding_token_id")
        eotID = try reader.integer("tokenizer.ggml.eot_token_id")
        eomID = try reader.integer("tokenizer.ggml.eom_token_id")
        addsBOS = try reader.bool("tokenizer.ggml.add_bos_token")
    }

    /// The one place that knows which algorithms there are; SentencePiece-style BPE ("llama") belongs here next.
    static func checkModel(_ model: String, file: String? = nil) throws(FormatError) {
        switch model {
        case "gpt2": return
        case "llama":
            throw FormatError(
                "tokenizer.ggml.model is \"llama\" (SentencePiece BPE), which is not supported yet; "
                    + "use a base whose tokenizer is byte-level BPE (\"gpt2\")", file: file)
        default:
            throw FormatError(
                "tokenizer.ggml.model is \(quoted(model)); only \"gpt2\" (byte-level BPE) is supported", file: file)
        }
    }
}

/// `text` in quotes and short enough for one line of an error, whatever a file put into it.
func quoted(_ text: String) -> String {
    let shown = text.unicodeScalars.prefix(40).map { $0.escaped(asASCII: false) }.joined()
    return "\"\(shown)\(text.unicodeScalars.count > 40 ? "…" : "")\""
}

/// Typed access to metadata, with errors that name the key.
private struct MetadataReader {
    let metadata: [String: GGUFValue]
    let path: String

    func string(_ key: String) throws -> String {
        guard let value = metadata[key] else { throw missing(key) }
        guard let string = value.stringValue else { throw mismatch(key, "a string") }
        return string
    }

    func strings(_ key: String) throws -> [String] {
        guard let value = metadata[key] else { throw missing(key) }
        switch value {
        case .strings(let strings): return strings
        default: throw mismatch(key, "an array of strings")
        }
    }

    func integers(_ key: String) throws -> [Int32]? {
        switch metadata[key] {
        case nil: return nil
        case .int32s(let values): return values
        case .array(let values, _):
            return try values.map { value in
                guard let number = value.intValue, let id = Int32(exactly: number) else {
                    throw mismatch(key, "an array of 32-bit integers")
                }
                return id
            }
        default: throw mismatch(key, "an array of integers")
        }
    }

    func integer(_ key: String) throws -> Int? {
        guard let value = metadata[key] else { return nil }
        guard let number = value.intValue else { throw mismatch(key, "an integer") }
        return number
    }

    func bool(_ key: String) throws -> Bool? {
        guard let value = metadata[key] else { return nil }
        guard let bool = value.boolValue else { throw mismatch(key, "a bool") }
        return bool
    }

    private func missing(_ key: String) -> FormatError {
        FormatError(
            "the key \(key) is missing, so the file has no usable tokenizer; convert the model again", file: path)
    }

    private func mismatch(_ key: String, _ expected: String) -> FormatError {
        FormatError("the key \(key) is not \(expected); convert the model again", file: path)
    }
}
