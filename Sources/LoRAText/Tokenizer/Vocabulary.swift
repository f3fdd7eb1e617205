import LoRAFormats

/// GGML's token types.
package enum TokenKind: Int32, Sendable {
    case normal = 1
    case unknown, control, userDefined, unused, byte
}

/// The tokens, their kinds and the merges of one model, checked and indexed; immutable and shared by all copies of a
/// `Tokenizer`.
final class Vocabulary: Sendable {
    let tokens: [String]
    let kinds: [TokenKind]
    let table: TokenTable
    /// The token of each single byte, or -1 where the model has none.
    let byteTokens: [Int32]
    let merges: MergeTable
    /// The token of "▁", and the token of each ASCII character or -1, for SentencePiece.
    let spaceToken: Int32?
    private let asciiTokens: [Int32]
    /// What stands for a character without tokens.
    let unknownID: Int32?
    /// Whether tokens are written as SentencePiece does ("▁" is a space), and not in the alphabet of bytes.
    let isSentencePiece: Bool
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
        let isSentencePiece = definition.model == "llama"
        byteTokens = (UInt8.min...UInt8.max).map { byte in
            table.id(of: isSentencePiece ? SentencePiece.text(of: byte) : ByteAlphabet.text(of: byte)) ?? -1
        }
        if let written = definition.merges {
            merges = try MergeTable(written, table: table)
        } else {
            merges = try MergeTable(
                scores: definition.scores ?? [], tokens: definition.tokens, kinds: kinds, table: table)
        }
        unknownID = definition.unknownID.map { Int32($0) }
        let spaceToken = SentencePiece.space.withUnsafeBytes { table.id(of: $0) }
        asciiTokens = (0..<128).map { character in
            character == 0x20
                ? spaceToken ?? -1 : table.id(of: String(Character(Unicode.Scalar(UInt8(character))))) ?? -1
        }
        self.spaceToken = spaceToken
        self.isSentencePiece = isSentencePiece
        self.table = table
        self.kinds = kinds
        self.specialTrie = specialTrie
        self.userDefinedTrie = userDefinedTrie
    }

    /// The token of one character, where a space is "▁".
    func characterToken(_ bytes: UnsafeRawBufferPointer) -> Int32? {
        guard bytes.count == 1, let byte = bytes.first, byte < 0x80 else { return table.id(of: bytes) }
        let id = asciiTokens[Int(byte)]
        return id < 0 ? nil : id
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
        case .normal, .unused, .byte:
            if isSentencePiece { return SentencePiece.bytes(of: text, kind: kinds[Int(id)]) }
            // A token with a character outside the alphabet can only have been added as plain text.
            return ByteAlphabet.bytes(of: text) ?? Array(text.utf8)
        }
    }
}

extension Vocabulary {
    private static func kinds(of definition: TokenizerDefinition, table: TokenTable) throws(FormatError) -> [TokenKind]
    {
        let types = definition.types
        guard types.isEmpty || types.count == definition.tokens.count else {
            throw FormatError(
                "tokenizer.ggml.token_type has \(types.count) elements for \(definition.tokens.count) tokens; "
                    + "convert the model again")
        }
        var kinds = [TokenKind](repeating: .normal, count: definition.tokens.count)
        for (id, type) in types.enumerated() {
            guard let kind = TokenKind(rawValue: type) else {
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
}
