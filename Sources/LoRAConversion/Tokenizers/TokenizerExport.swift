import LoRAFormats
import LoRAText
import OrderedCollections

/// A base's tokenizer in the form of Hugging Face's files.
struct TokenizerExport {
    private let tokenizer: Tokenizer
    private let metadata: [String: GGUFValue]
    private let addsEOS: Bool

    /// - Throws: `FormatError` when the base has no tokenizer, or one that is not supported.
    init(_ base: GGUFFile) throws {
        tokenizer = try Tokenizer(gguf: base)
        metadata = base.metadata
        addsEOS = metadata["tokenizer.ggml.add_eos_token"]?.boolValue ?? false
    }

    private var ids: Range<Int32> { 0..<Int32(tokenizer.vocabularyCount) }

    private func text(_ id: Int32?) -> JSONValue { id.flatMap(tokenizer.token(of:)).map { .string($0) } ?? .null }

    /// tokenizer.json.
    func tokenizerText() -> String {
        let steps = PipelineExport(tokenizer.segmentation)
        let members: [(String, String)] = [
            ("version", "\"1.0\""),
            ("truncation", "null"),
            ("padding", "null"),
            ("added_tokens", JSONValue.array(addedTokens()).serialized()),
            ("normalizer", steps.normalizer.serialized()),
            ("pre_tokenizer", steps.preTokenizer.serialized()),
            ("post_processor", postProcessor().serialized()),
            ("decoder", steps.decoder.serialized()),
            ("model", model(steps)),
        ]
        return "{\n" + members.map { "  \"\($0.0)\": \($0.1)" }.joined(separator: ",\n") + "\n}\n"
    }

    /// The model as text: a vocabulary may have keys that differ only in their normal form, which no dictionary of
    /// strings would keep apart.
    private func model(_ steps: PipelineExport) -> String {
        func quoted(_ id: Int32) -> String { text(id).serialized() }
        let vocabulary = ids.filter { tokenizer.kind(of: $0) != .unused }.map { "\(quoted($0)):\($0)" }
        let merges = tokenizer.merges.map { "[\(quoted($0.left)),\(quoted($0.right))]" }
        let unknown = steps.isSentencePiece ? text(tokenizer.unknownID) : .null
        let members: [(String, String)] = [
            ("type", "\"BPE\""),
            ("dropout", "null"),
            ("unk_token", unknown.serialized()),
            ("continuing_subword_prefix", "null"),
            ("end_of_word_suffix", "null"),
            ("fuse_unk", steps.isSentencePiece ? "true" : "false"),
            ("byte_fallback", steps.isSentencePiece ? "true" : "false"),
            ("ignore_merges", steps.ignoresMerges ? "true" : "false"),
            ("vocab", "{\(vocabulary.joined(separator: ","))}"),
            ("merges", "[\(merges.joined(separator: ","))]"),
        ]
        return "{\n" + members.map { "    \"\($0.0)\": \($0.1)" }.joined(separator: ",\n") + "\n  }"
    }

    private func addedTokens() -> [JSONValue] {
        ids.compactMap { id in
            let kind = tokenizer.kind(of: id)
            guard [.control, .unknown, .userDefined].contains(kind) else { return nil }
            return .object([
                "id": .integer(Int64(id)), "content": text(id), "single_word": .bool(false), "lstrip": .bool(false),
                "rstrip": .bool(false), "normalized": .bool(false), "special": .bool(kind != .userDefined),
            ])
        }
    }

    private func postProcessor() -> JSONValue {
        let before = tokenizer.addsBOS ? tokenizer.bosID : nil
        let after = addsEOS ? tokenizer.eosID : nil
        guard before != nil || after != nil else { return .null }
        func special(_ id: Int32?, type: Int64) -> [JSONValue] {
            id == nil ? [] : [.object(["SpecialToken": .object(["id": text(id), "type_id": .integer(type)])])]
        }
        func sequence(_ name: String, type: Int64) -> [JSONValue] {
            special(before, type: type)
                + [.object(["Sequence": .object(["id": .string(name), "type_id": .integer(type)])])]
                + special(after, type: type)
        }
        var tokens: OrderedDictionary<String, JSONValue> = [:]
        for id in [before, after] {
            guard let id, let name = tokenizer.token(of: id) else { continue }
            tokens[name] = .object([
                "id": .string(name), "ids": .array([.integer(Int64(id))]), "tokens": .array([.string(name)]),
            ])
        }
        return .object([
            "type": .string("TemplateProcessing"), "single": .array(sequence("A", type: 0)),
            "pair": .array(sequence("A", type: 0) + sequence("B", type: 1)), "special_tokens": .object(tokens),
        ])
    }

    /// tokenizer_config.json.
    func configuration() -> JSONValue {
        var members: OrderedDictionary<String, JSONValue> = [
            "tokenizer_class": .string("PreTrainedTokenizerFast"),
            "add_bos_token": .bool(tokenizer.addsBOS), "add_eos_token": .bool(addsEOS),
            "clean_up_tokenization_spaces": .bool(false),
        ]
        for (name, id) in [
            ("bos", tokenizer.bosID), ("eos", tokenizer.eosID), ("unk", tokenizer.unknownID), ("pad", tokenizer.padID),
        ] where id != nil { members["\(name)_token"] = text(id) }
        if let architecture = metadata["general.architecture"]?.stringValue,
            let length = metadata["\(architecture).context_length"]?.intValue
        {
            members["model_max_length"] = .integer(Int64(length))
        }
        return .object(members)
    }

    /// generation_config.json: everything that ends a turn, EOS first.
    func generationConfiguration() -> JSONValue {
        var members: OrderedDictionary<String, JSONValue> = [:]
        if let id = tokenizer.bosID { members["bos_token_id"] = .integer(Int64(id)) }
        let eos = tokenizer.eosID.map { [$0] } ?? []
        let ends = eos + tokenizer.endIDs.subtracting(eos).sorted()
        let values = ends.map { JSONValue.integer(Int64($0)) }
        if !values.isEmpty { members["eos_token_id"] = values.count == 1 ? values[0] : .array(values) }
        if let id = tokenizer.padID { members["pad_token_id"] = .integer(Int64(id)) }
        return .object(members)
    }
}

/// The steps before and after BPE as tokenizer.json writes them; the inverse of `TokenizerPipeline`.
struct PipelineExport {
    private(set) var normalizer = JSONValue.null
    private(set) var preTokenizer = JSONValue.null
    private(set) var decoder = JSONValue.null
    private(set) var isSentencePiece = false
    private(set) var ignoresMerges = false

    init(_ segmentation: Segmentation) {
        switch segmentation {
        case .words(let preTokenizer): setWords(preTokenizer)
        case .sentencePiece(let prefix): setSentencePiece(prefix)
        }
    }

    private mutating func setWords(_ words: PreTokenizer) {
        ignoresMerges = words.ignoresMerges
        if words.normalizes { normalizer = .object(["type": .string("NFC")]) }
        decoder = Self.byteLevel(withPattern: true)
        switch words.kind {
        case .gpt2: preTokenizer = Self.byteLevel(withPattern: true)
        case .smollm:
            preTokenizer = Self.sequence(
                "pretokenizers",
                [
                    .object(["type": .string("Digits"), "individual_digits": .bool(true)]),
                    Self.byteLevel(withPattern: true),
                ])
        case .digitRuns(let repetition):
            let pattern = TokenizerPipeline.withDigitRuns(repetition)
            preTokenizer = Self.sequence(
                "pretokenizers",
                [
                    .object([
                        "type": .string("Split"), "pattern": .object(["Regex": .string(pattern)]),
                        "behavior": .string("Isolated"), "invert": .bool(false),
                    ]),
                    Self.byteLevel(withPattern: false),
                ])
        }
    }

    private mutating func setSentencePiece(_ prefix: SpacePrefix) {
        isSentencePiece = true
        if let scheme = prefix.metaspaceScheme {
            preTokenizer = .object([
                "type": .string("Metaspace"), "replacement": .string("▁"), "prepend_scheme": .string(scheme),
                "split": .bool(false),
            ])
        } else {
            let prepend = JSONValue.object(["type": .string("Prepend"), "prepend": .string("▁")])
            let replace = Self.replace(" ", by: "▁")
            normalizer = prefix == .always ? Self.sequence("normalizers", [prepend, replace]) : replace
        }
        let strip = JSONValue.object([
            "type": .string("Strip"), "content": .string(" "), "start": .integer(1), "stop": .integer(0),
        ])
        let steps = [
            Self.replace("▁", by: " "), .object(["type": .string("ByteFallback")]), .object(["type": .string("Fuse")]),
        ]
        decoder = Self.sequence("decoders", prefix == .none ? steps : steps + [strip])
    }

    private static func sequence(_ list: String, _ steps: [JSONValue]) -> JSONValue {
        .object(["type": .string("Sequence"), list: .array(steps)])
    }

    private static func replace(_ text: String, by other: String) -> JSONValue {
        .object([
            "type": .string("Replace"), "pattern": .object(["String": .string(text)]), "content": .string(other),
        ])
    }

    private static func byteLevel(withPattern: Bool) -> JSONValue {
        .object([
            "type": .string("ByteLevel"), "add_prefix_space": .bool(false), "trim_offsets": .bool(true),
            "use_regex": .bool(withPattern),
        ])
    }
}
