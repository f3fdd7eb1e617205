import LoRAFormats

/// The tokens, their kinds and the merges of one model, checked and indexed; immutable and shared by all copies of a
/// `Tokenizer`.
final class Vocabulary: Sendable {
    /// GGML's token types.
    enum Kind: Int32 {
        case normal = 1
        case unknown, control, userDefined, unused, byte
    }

    let tokens: [String]
    let kinds: [Kind]
    let table: TokenTable
    /// The token of each single byte, or -1 where the model has none.
    let byteTokens: [Int32]
    /// Rank of each pair of neighbours that merge: lower ranks merge first. Keys are `pairKey`s.
    let ranks: [UInt64: Int32]
    /// The token that a merge of each rank gives.
    let results: [Int32]
    /// Tokens that text turns into when special tokens are parsed, and those that it always turns into.
    let specialTrie: SpecialTokenTrie
    let userDefinedTrie: SpecialTokenTrie

    /// - Throws: `FormatError` that names the key and the element.
    init(_ definition: TokenizerDefinition) throws(FormatError) {
        tokens = definition.tokens
        guard !tokens.isEmpty, tokens.count <= Int(Int32.max) else {
            throw FormatError("tokenizer.ggml.tokens has \(tokens.count) tokens; expected 1 to \(Int32.max)")
        }
        let table = TokenTable(tokens)
        let kinds = try Self.kinds(of: definition, table: table)
        var specialTrie = SpecialTokenTrie()
        var userDefinedTrie = SpecialTokenTrie()
        for (id, kind) in kinds.enumerated() {
            guard kind == .control || kind == .unknown || kind == .userDefined else { continue }
            try specialTrie.insert(tokens[id], id: Int32(id))
            if kind == .userDefined { try userDefinedTrie.insert(tokens[id], id: Int32(id)) }
        }
        byteTokens = (UInt8.min...UInt8.max).map { byte in
            var text: [UInt8] = []
            ByteAlphabet.appendCharacter(of: byte, to: &text)
            return text.withUnsafeBytes { table.id(of: $0) } ?? -1
        }
        (ranks, results) = try Self.index(merges: definition.merges, table: table)
        self.table = table
        self.kinds = kinds
        self.specialTrie = specialTrie
        self.userDefinedTrie = userDefinedTrie
    }

    static func pairKey(_ left: Int32, _ right: Int32) -> UInt64 {
        UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
    }

    /// Whether a token carries meaning for the program instead of text for the reader.
    func isSpecial(_ id: Int32) -> Bool {
        guard kinds.indices.contains(Int(id)) else { return false }
        return kinds[Int(id)] == .control || kinds[Int(id)] == .unknown
    }

    /// The bytes a token stands for; none for an id outside the vocabulary.
    func bytes(of id: Int32) -> [UInt8] {
        guard tokens.indices.contains(Int(id)) else { return [] }
        let text = tokens[Int(id)]
        switch kinds[Int(id)] {
        case .control, .unknown, .userDefined: return Array(text.utf8)
        // A token with a character outside the alphabet can only have been added as plain text.
        case .normal, .unused, .byte: return ByteAlphabet.bytes(of: text) ?? Array(text.utf8)
        }
    }
}

extension Vocabulary {
    private static func kinds(of definition: TokenizerDefinition, table: TokenTable) throws(FormatError) -> [Kind] {
        let types = definition.types
        guard types.isEmpty || types.count == definition.tokens.count else {
            throw FormatError(
                "tokenizer.ggml.token_type has \(types.count) elements for \(definition.tokens.count) tokens; "
                    + "convert the model again")
        }
        var kinds = [Kind](repeating: .normal, count: definition.tokens.count)
        for (id, type) in types.enumerated() {
            guard let kind = Kind(rawValue: type) else {
                throw FormatError(
                    "tokenizer.ggml.token_type[\(id)] is \(type); expected 1 to 6; convert the model again")
            }
            kinds[id] = kind
        }
        // Converters have left the end of a turn typed as plain text; then generation would run past it.
        for name in EndTokens.names {
            if let id = table.id(of: name) { kinds[Int(id)] = .control }
        }
        return kinds
    }

    private static func index(
        merges: [String], table: TokenTable
    ) throws(FormatError) -> (ranks: [UInt64: Int32], results: [Int32]) {
        var ranks: [UInt64: Int32] = [:]
        ranks.reserveCapacity(merges.count)
        var results: [Int32] = []
        results.reserveCapacity(merges.count)
        var joined: [UInt8] = []
        for (rank, merge) in merges.enumerated() {
            guard let (left, right, result) = parse(merge, table: table, joined: &joined) else {
                throw FormatError(
                    "tokenizer.ggml.merges[\(rank)] is \(quoted(merge)); expected two tokens of the vocabulary with one "
                        + "space between them that together are a token; convert the model again")
            }
            // As in Hugging Face's tokenizers, the last of several equal merges counts.
            ranks[pairKey(left, right)] = Int32(rank)
            results.append(result)
        }
        return (ranks, results)
    }

    private static func parse(
        _ merge: String, table: TokenTable, joined: inout [UInt8]
    ) -> (left: Int32, right: Int32, result: Int32)? {
        var merge = merge
        return merge.withUTF8 { text in
            guard let space = text.firstIndex(of: UInt8(ascii: " ")) else { return nil }
            joined.removeAll(keepingCapacity: true)
            joined.append(contentsOf: text[..<space])
            joined.append(contentsOf: text[(space + 1)...])
            return joined.withUnsafeBytes { joined in
                guard
                    let left = table.id(of: UnsafeRawBufferPointer(rebasing: joined[..<space])),
                    let right = table.id(of: UnsafeRawBufferPointer(rebasing: joined[space...])),
                    let result = table.id(of: joined)
                else { return nil }
                return (left, right, result)
            }
        }
    }
}

/// Tokens that end a turn or a text, by name: files often give only one of them as EOS.
enum EndTokens {
    /// The names by which llama.cpp knows them, without its marks for filling gaps in code, which end nothing here.
    static let names = [
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
        "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
        "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
    ]

    static func ids(of definition: TokenizerDefinition, table: TokenTable) -> Set<Int32> {
        var ids = Set(names.compactMap { table.id(of: $0) })
        let given = [definition.eosID, definition.eotID, definition.eomID].compactMap { $0 }
        // In these two formats `<|end|>` ends one message of several in a turn.
        let severalMessages = [["<|return|>", "<|call|>"], ["<|calls|>", "<|flush|>"]]
        if severalMessages.contains(where: { $0.allSatisfy { table.id(of: $0) != nil } }),
            let id = table.id(of: "<|end|>")
        {
            ids.remove(id)
        }
        return ids.union(given.map { Int32($0) })
    }
}
