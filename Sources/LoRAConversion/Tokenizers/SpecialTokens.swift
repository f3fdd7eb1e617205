import LoRAFormats
import LoRAText

/// The tokens with a meaning for programs, from whichever file names them.
struct SpecialTokens {
    private(set) var keys: [(key: String, value: GGUFValue)] = []
    let unknownID: Int32?

    /// Looks a token up by its text in tokenizer_config.json, then special_tokens_map.json, and by its id in config.json,
    /// then generation_config.json.
    /// - Throws: `FormatError` when BOS or EOS is named and does not exist.
    init(_ files: TokenizerFiles, vocabulary: ImportedVocabulary) throws(FormatError) {
        func id(_ name: String, isNeeded: Bool) throws(FormatError) -> Int32? {
            for file in [files.configuration, files.specialTokens] {
                guard let entry = file["\(name)_token"],
                    let text = entry.stringValue ?? entry["content"]?.stringValue
                else { continue }
                if let id = vocabulary.id(of: text) { return id }
                if isNeeded {
                    throw FormatError("\(name)_token is \(FormatError.quoted(text)), which is not in the vocabulary")
                }
            }
            return Self.ids("\(name)_token_id", in: files.model, vocabulary).first
                ?? Self.ids("\(name)_token_id", in: files.generation, vocabulary).first
        }
        let bos = try id("bos", isNeeded: true)
        let eos = try id("eos", isNeeded: true)
        let unknown =
            try id("unk", isNeeded: false)
            ?? files.tokenizer["model"]?["unk_token"]?.stringValue.flatMap { vocabulary.id(of: $0) }
        unknownID = unknown
        add("bos_token_id", bos)
        add("eos_token_id", eos)
        add("unknown_token_id", unknown)
        add("padding_token_id", try id("pad", isNeeded: false))
        addEnds(files, vocabulary: vocabulary, eos: eos)
        let added = Self.addedByTemplate(files.tokenizer["post_processor"])
        for (name, id, place) in [("bos", bos, added.first), ("eos", eos, added.last)] {
            let isAdded = place != nil && place == id.map { vocabulary.tokens[Int($0)] }
            let adds = files.configuration["add_\(name)_token"]?.boolValue ?? isAdded
            keys.append(("tokenizer.ggml.add_\(name)_token", .bool(adds)))
        }
    }

    private mutating func add(_ name: String, _ id: Int32?) {
        if let id { keys.append(("tokenizer.ggml.\(name)", .uint32(UInt32(bitPattern: id)))) }
    }

    /// Whatever else ends a generation and is not known by its name.
    private mutating func addEnds(_ files: TokenizerFiles, vocabulary: ImportedVocabulary, eos: Int32?) {
        let ends =
            (Self.ids("eos_token_id", in: files.generation, vocabulary)
            + Self.ids("eos_token_id", in: files.model, vocabulary)).filter { id in
                id != eos && !EndTokens.names.contains(vocabulary.tokens[Int(id)])
            }
        add("eot_token_id", ends.first)
        add("eom_token_id", ends.first { $0 != ends.first })
    }

    /// One id, or a list of them; those without a token are left out.
    private static func ids(_ key: String, in json: JSONValue, _ vocabulary: ImportedVocabulary) -> [Int32] {
        (json[key]?.arrayValue ?? [json[key] ?? .null]).compactMap { value in
            value.intValue.flatMap { vocabulary.tokens.indices.contains($0) ? Int32($0) : nil }
        }
    }

    /// The texts that a post-processor's template puts before and after one sequence.
    private static func addedByTemplate(_ json: JSONValue?) -> (first: String?, last: String?) {
        for processor in json?["processors"]?.arrayValue ?? [json ?? .null]
        where processor["type"]?.stringValue == "TemplateProcessing" {
            let single = processor["single"]?.arrayValue ?? []
            func text(_ part: JSONValue?) -> String? { part?["SpecialToken"]?["id"]?.stringValue }
            return (text(single.first), text(single.last))
        }
        return (nil, nil)
    }
}
