public import LoRAFormats

/// Byte-level BPE from a GGUF file's own vocabulary and merges.
///
/// Ids equal those of Hugging Face's `tokenizers` for the same vocabulary, merges and pre-tokenizer. Text is taken as
/// it is, without Unicode normalisation, so that decoding gives back what was encoded; GGUF files do not say whether the
/// original tokenizer normalised (Qwen 2's brings text into NFC), and llama.cpp does not either.
///
/// A byte for which the vocabulary has no token at all leaves no id behind; SmolLM2 lacks six control characters.
/// Copies share one immutable vocabulary, and any number of threads may encode and decode at once.
public struct Tokenizer: Sendable {
    /// Tokens in the vocabulary (V).
    public let vocabularyCount: Int
    /// Beginning of a sequence.
    public let bosID: Int32?
    /// End of a sequence.
    public let eosID: Int32?
    /// Padding.
    public let padID: Int32?
    /// Whether the model wants BOS at the beginning of plain text. `encode` never adds it.
    public let addsBOS: Bool
    /// Tokens that end a turn: EOS, EOT, EOM and the well-known names that llama.cpp stops at.
    public let endIDs: Set<Int32>

    private let vocabulary: Vocabulary
    private let preTokenizer: PreTokenizer

    /// Reads the tokenizer of a GGUF file; tensors are not looked at.
    /// - Throws: `FormatError` naming the key that is missing or not supported.
    public init(gguf: GGUFFile) throws {
        do {
            try self.init(TokenizerDefinition(gguf: gguf))
        } catch var error as FormatError {
            error.file = error.file ?? gguf.path
            throw error
        }
    }

    init(_ definition: TokenizerDefinition) throws(FormatError) {
        try TokenizerDefinition.checkModel(definition.model)
        preTokenizer = try PreTokenizer(named: definition.preTokenizer)
        let count = definition.tokens.count
        bosID = try Self.checked(definition.bosID, "bos", count: count)
        eosID = try Self.checked(definition.eosID, "eos", count: count)
        padID = try Self.checked(definition.padID, "padding", count: count)
        _ = try Self.checked(definition.eotID, "eot", count: count)
        _ = try Self.checked(definition.eomID, "eom", count: count)
        vocabulary = try Vocabulary(definition)
        vocabularyCount = count
        addsBOS = (definition.addsBOS ?? preTokenizer.addsBOS) && bosID != nil
        endIDs = EndTokens.ids(of: definition, table: vocabulary.table)
    }

    private static func checked(_ id: Int?, _ name: String, count: Int) throws(FormatError) -> Int32? {
        guard let id else { return nil }
        guard (0..<count).contains(id), let token = Int32(exactly: id) else {
            throw FormatError(
                "tokenizer.ggml.\(name)_token_id is \(id), but there are \(count) tokens; convert the model again")
        }
        return token
    }
}

extension Tokenizer {
    /// Token ids of UTF-8 text. With `parsingSpecial`, the text of special tokens becomes their ids.
    ///
    /// Without it only user-defined tokens are recognised, which stand for text that a reader may write.
    public func encode(_ text: String, parsingSpecial: Bool = true) -> [Int32] {
        var text = text
        return text.withUTF8 { encode(bytes: UnsafeRawBufferPointer($0), parsingSpecial: parsingSpecial) }
    }

    /// Token ids of arbitrary bytes, taken as they are.
    ///
    /// Each byte that is not part of well-formed UTF-8 becomes the token of that one byte, and the text on either side
    /// of it is encoded as if it stood alone.
    public func encode(bytes: UnsafeRawBufferPointer, parsingSpecial: Bool) -> [Int32] {
        encode(bytes, parsingSpecial: parsingSpecial, wantsRanges: false).ids
    }

    /// Token ids, and for each the range of UTF-8 bytes of `text` that it covers: in order, never overlapping, with
    /// gaps only where a byte has no token. A range may begin or end inside a character.
    public func encodeWithRanges(
        _ text: String, parsingSpecial: Bool = true
    ) -> (ids: [Int32], ranges: [Range<Int>]) {
        var text = text
        let output = text.withUTF8 {
            encode(UnsafeRawBufferPointer($0), parsingSpecial: parsingSpecial, wantsRanges: true)
        }
        return (output.ids, output.ranges)
    }

    private func encode(_ bytes: UnsafeRawBufferPointer, parsingSpecial: Bool, wantsRanges: Bool) -> TokenSink {
        var session = EncodingSession(vocabulary, preTokenizer, wantsRanges: wantsRanges)
        session.encode(bytes, parsingSpecial: parsingSpecial)
        return session.output
    }
}

extension Tokenizer {
    /// The text of `ids`; bytes that are not UTF-8 become U+FFFD, ids outside the vocabulary nothing.
    public func decode(_ ids: [Int32], skippingSpecial: Bool = true) -> String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(ids.count * 4)
        for id in ids where !(skippingSpecial && isSpecial(id)) {
            bytes.append(contentsOf: vocabulary.bytes(of: id))
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The bytes a token stands for; none for an id outside the vocabulary.
    public func bytes(of id: Int32) -> [UInt8] { vocabulary.bytes(of: id) }

    /// The text of a token as the vocabulary has it: for byte-level BPE in the alphabet where a space is "Ġ".
    public func token(of id: Int32) -> String? {
        vocabulary.tokens.indices.contains(Int(id)) ? vocabulary.tokens[Int(id)] : nil
    }

    /// The id of a token by its text as the vocabulary has it, compared byte by byte.
    public func id(of token: String) -> Int32? { vocabulary.table.id(of: token) }

    /// Whether a token is a control token: decoding skips it unless told otherwise. User-defined tokens are text.
    public func isSpecial(_ id: Int32) -> Bool { vocabulary.isSpecial(id) }
}
