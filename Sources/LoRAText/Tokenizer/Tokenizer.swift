public import LoRAFormats

/// BPE over bytes, or SentencePiece's over characters, from a GGUF file's own vocabulary and merges.
///
/// Ids equal those of Hugging Face's `tokenizers` for the same vocabulary, merges and pre-tokenizer; Qwen 2's brings text
/// into Unicode's normal form C first. Where llama.cpp gives others, these are followed:
/// - llama.cpp never normalises.
/// - SentencePiece's merges go by rank; llama.cpp compares scores alone, and so prefers the leftmost of two pairs that
///   give the same token, and merges characters that are no tokens themselves.
///
/// A byte for which a byte-level vocabulary has no token at all leaves no id behind; SmolLM2 lacks six control
/// characters. Bytes that are not UTF-8 decode to one U+FFFD for each maximal part of a character, where Hugging Face's
/// decoder for byte tokens gives one for each byte.
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

    /// What a character without tokens becomes.
    package var unknownID: Int32? { vocabulary.unknownID }

    private let vocabulary: Vocabulary
    package let segmentation: Segmentation
    /// Whether text begins with a space that is not part of it.
    let stripsSpace: Bool

    /// Reads the tokenizer of a GGUF file; tensors are not looked at.
    /// - Throws: `FormatError` naming the key that is missing or not supported.
    public init(gguf: GGUFFile) throws {
        do throws(FormatError) {
            try self.init(metadata: gguf.metadata)
        } catch {
            throw error.located(in: gguf.path)
        }
    }

    /// Reads the tokenizer from the keys of a GGUF file.
    /// - Throws: `FormatError` naming the key that is missing or not supported.
    public init(metadata: [String: GGUFValue]) throws(FormatError) {
        try self.init(TokenizerDefinition(metadata: metadata))
    }

    init(_ definition: TokenizerDefinition) throws(FormatError) {
        let addsBOSByDefault: Bool
        if definition.model == "llama" {
            let prefix = try SpacePrefix(adds: definition.addsSpacePrefix, scheme: definition.metaspaceScheme)
            segmentation = .sentencePiece(prefix)
            (stripsSpace, addsBOSByDefault) = (prefix != .none, true)
        } else {
            let preTokenizer = try PreTokenizer(named: definition.preTokenizer)
            segmentation = .words(preTokenizer)
            (stripsSpace, addsBOSByDefault) = (false, preTokenizer.addsBOS)
        }
        let count = definition.tokens.count
        bosID = try Self.checked(definition.bosID, "bos", count: count)
        eosID = try Self.checked(definition.eosID, "eos", count: count)
        padID = try Self.checked(definition.padID, "padding", count: count)
        _ = try Self.checked(definition.unknownID, "unknown", count: count)
        _ = try Self.checked(definition.eotID, "eot", count: count)
        _ = try Self.checked(definition.eomID, "eom", count: count)
        vocabulary = try Vocabulary(definition)
        vocabularyCount = count
        addsBOS = (definition.addsBOS ?? addsBOSByDefault) && bosID != nil
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
    /// gaps only where a byte has no token. A range may begin or end inside a character; that of a space put before the
    /// text is empty, or that of the word it went into.
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
        var session = EncodingSession(vocabulary, segmentation, wantsRanges: wantsRanges)
        session.encode(bytes, parsingSpecial: parsingSpecial)
        return session.output
    }
}

extension Tokenizer {
    /// The text of `ids`; bytes that are not UTF-8 become U+FFFD, ids outside the vocabulary nothing. Where the model
    /// puts a space before text, one at the beginning is left out.
    public func decode(_ ids: [Int32], skippingSpecial: Bool = true) -> String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(ids.count * 4)
        for id in ids where !(skippingSpecial && isSpecial(id)) {
            bytes.append(contentsOf: vocabulary.bytes(of: id))
        }
        let start = stripsSpace && bytes.first == 0x20 ? 1 : 0
        return String(decoding: bytes[start...], as: UTF8.self)
    }

    /// The bytes a token stands for; none for an id outside the vocabulary.
    public func bytes(of id: Int32) -> [UInt8] { vocabulary.bytes(of: id) }

    /// The text of a token as the vocabulary has it: for byte-level BPE in the alphabet where a space is "Ġ".
    public func token(of id: Int32) -> String? {
        vocabulary.tokens.indices.contains(Int(id)) ? vocabulary.tokens[Int(id)] : nil
    }

    /// The id of a token by its text as the vocabulary has it, compared byte by byte.
    public func id(of token: String) -> Int32? { vocabulary.table.id(of: token) }

    /// The kind of a token; `unused` for an id outside the vocabulary.
    package func kind(of id: Int32) -> TokenKind {
        vocabulary.kinds.indices.contains(Int(id)) ? vocabulary.kinds[Int(id)] : .unused
    }

    /// The pairs of tokens that merge, best first.
    package var merges: [(left: Int32, right: Int32)] {
        vocabulary.merges.ranks.sorted { $0.value < $1.value }.map { pair, _ in
            (Int32(truncatingIfNeeded: pair >> 32), Int32(truncatingIfNeeded: pair))
        }
    }

    /// Whether a token is a control token: decoding skips it unless told otherwise. User-defined tokens are text.
    public func isSpecial(_ id: Int32) -> Bool { vocabulary.isSpecial(id) }
}
