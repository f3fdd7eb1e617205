import LoRAFormats
import LoRAText

/// The tokens, their types and the merges of tokenizer.json, as GGUF has them.
struct ImportedVocabulary {
    private(set) var tokens: [String]
    private(set) var types: [Int32]
    private(set) var merges: [String] = []
    /// Ids by the exact text of their tokens in tokenizer.json.
    let table: TokenTable

    /// - Parameter size: Tokens wanted (V).
    init(_ json: JSONValue, pipeline: TokenizerPipeline, size: Int) throws(FormatError) {
        guard (1...(1 << 24)).contains(size) else {
            throw FormatError("the model's vocabulary has \(size) tokens; expected 1 to \(1 << 24)")
        }
        var slots = [Slot?](repeating: nil, count: size)
        try Self.readVocabulary(json["model"]?["vocab"], into: &slots)
        try Self.readAddedTokens(json["added_tokens"], into: &slots)
        tokens = slots.indices.map { slots[$0]?.text ?? "[PAD\($0)]" }
        types = slots.map { $0?.kind.rawValue ?? TokenKind.unused.rawValue }
        table = TokenTable(tokens)
        merges = try Self.readMerges(json["model"]?["merges"])
        if pipeline.isSentencePiece {
            try markSentencePieceTypes()
        } else if let unknown = json["model"]?["unk_token"]?.stringValue,
            let byte = (UInt8.min...UInt8.max).first(where: { table.id(of: ByteAlphabet.text(of: $0)) == nil })
        {
            throw FormatError(
                "the byte \(byte) has no token and becomes model.unk_token \(FormatError.quoted(unknown)), which is "
                    + "not supported for byte-level BPE")
        }
    }

    private struct Slot {
        let text: String
        let kind: TokenKind
    }

    /// The id of a token whose text is exactly `text`.
    func id(of text: String) -> Int32? { table.id(of: text) }

    /// Gives the unknown token its type, which SentencePiece's model file would tell too.
    mutating func markUnknown(_ id: Int32) { types[Int(id)] = TokenKind.unknown.rawValue }

    /// SentencePiece's scores, which grow with how early a token is merged; other tokens follow after those.
    func scores() -> [Float] {
        var scores = [Float](repeating: 0, count: tokens.count)
        var next: Float = 0
        for merge in merges {
            let text = merge.utf8.filter { $0 != UInt8(ascii: " ") }
            guard let id = text.withUnsafeBytes({ table.id(of: $0) }), scores[Int(id)] == 0 else { continue }
            next -= 1
            scores[Int(id)] = next
        }
        for id in tokens.indices where types[id] == TokenKind.normal.rawValue && scores[id] == 0 {
            next -= 1
            scores[id] = next
        }
        return scores
    }
}

extension ImportedVocabulary {
    private static func readVocabulary(_ json: JSONValue?, into slots: inout [Slot?]) throws(FormatError) {
        guard let entries = json?.arrayValue else { throw FormatError("model.vocab is missing or not an object") }
        for entry in entries {
            guard let pair = entry.arrayValue, pair.count == 2, let text = pair[0].stringValue else {
                throw FormatError("model.vocab is not an object of ids by token")
            }
            let id = try place(pair[1], of: text, count: slots.count)
            if let other = slots[id] {
                throw FormatError(
                    "model.vocab has the id \(id) twice, for \(FormatError.quoted(other.text)) and "
                        + FormatError.quoted(text))
            }
            slots[id] = Slot(text: text, kind: .normal)
        }
    }

    private static func place(_ value: JSONValue?, of text: String, count: Int) throws(FormatError) -> Int {
        guard let id = value?.intValue, (0..<count).contains(id) else {
            let shown = value?.intValue.map { String($0) } ?? value?.kind ?? "missing"
            throw FormatError(
                "the id of the token \(FormatError.quoted(text)) is \(shown), but the model has \(count) embeddings")
        }
        return id
    }

    private static func readAddedTokens(_ json: JSONValue?, into slots: inout [Slot?]) throws(FormatError) {
        guard let json, !json.isNull else { return }
        guard let entries = json.arrayValue else { throw FormatError("added_tokens is \(json.kind), not an array") }
        var wrong: [String] = []
        for entry in entries {
            guard let text = entry["content"]?.stringValue, !text.isEmpty else {
                throw FormatError("an element of added_tokens has no content")
            }
            let id = try place(entry["id"], of: text, count: slots.count)
            if let other = slots[id], !other.text.utf8.elementsEqual(text.utf8) {
                throw FormatError(
                    "the id \(id) is that of \(FormatError.quoted(other.text)) in model.vocab and that of "
                        + "\(FormatError.quoted(text)) in added_tokens")
            }
            for flag in ["lstrip", "rstrip", "single_word"] where entry[flag]?.boolValue == true {
                wrong.append("\(FormatError.quoted(text)) has \(flag)")
            }
            let isControl = entry["special"]?.boolValue == true || looksSpecial(text)
            slots[id] = Slot(text: text, kind: isControl ? .control : .userDefined)
        }
        guard wrong.isEmpty else {
            throw FormatError(
                "\(wrong.prefix(20).joined(separator: ", ")) in added_tokens, which GGUF cannot express"
                    + (wrong.count > 20 ? " (\(wrong.count) in all)" : ""))
        }
    }

    /// Tokens that converters take for control tokens whatever their flag says.
    private static func looksSpecial(_ text: String) -> Bool {
        ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(text)
            || text.hasPrefix("<|") && text.hasSuffix("|>")
            || text.hasPrefix("<｜") && text.hasSuffix("｜>")
            || text.hasPrefix("<unused") && text.hasSuffix(">")
    }

    /// Merges are "left right" in older files and [left, right] in newer ones.
    private static func readMerges(_ json: JSONValue?) throws(FormatError) -> [String] {
        guard let entries = json?.arrayValue else { throw FormatError("model.merges is missing or not an array") }
        var merges: [String] = []
        merges.reserveCapacity(entries.count)
        for (index, entry) in entries.enumerated() {
            let text = entry.stringValue ?? entry.arrayValue.flatMap(Self.joined)
            guard let text, text.utf8.count(where: { $0 == UInt8(ascii: " ") }) == 1 else {
                throw FormatError("model.merges[\(index)] is not two tokens without spaces; GGUF cannot express it")
            }
            merges.append(text)
        }
        return merges
    }

    private static func joined(_ pair: [JSONValue]) -> String? {
        guard pair.count == 2, let left = pair[0].stringValue, let right = pair[1].stringValue else { return nil }
        return left + " " + right
    }

    /// The types that SentencePiece's model file would tell.
    private mutating func markSentencePieceTypes() throws(FormatError) {
        for byte in UInt8.min...UInt8.max {
            let text = SentencePiece.text(of: byte)
            guard let id = table.id(of: text) else {
                throw FormatError("model.byte_fallback is true, but there is no token \(text); expected all 256 bytes")
            }
            types[Int(id)] = TokenKind.byte.rawValue
        }
        // llama.cpp looks for these in the text as it is, where spaces are still spaces.
        for id in tokens.indices where types[id] == TokenKind.userDefined.rawValue {
            tokens[id] = SentencePiece.withSpaces(tokens[id])
        }
    }
}
