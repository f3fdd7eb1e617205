public import LoRAFormats

/// Byte-level BPE from a GGUF file's own vocabulary and merges.
public struct Tokenizer: Sendable {
    public let vocabularyCount: Int
    public let bosID: Int32?
    public let eosID: Int32?
    public let padID: Int32?
    /// Whether the model wants BOS at the beginning of plain text.
    public let addsBOS: Bool
    /// Tokens that end a turn: EOS, EOT and their kin.
    public let endIDs: Set<Int32>

    /// - Throws: `FormatError` naming the key that is missing or not supported.
    public init(gguf: GGUFFile) throws { fatalError("stub") }

    /// Token ids of UTF-8 text. With `parsingSpecial`, the text of special tokens becomes their ids.
    public func encode(_ text: String, parsingSpecial: Bool = true) -> [Int32] { fatalError("stub") }

    /// Token ids of arbitrary bytes, taken as they are.
    public func encode(bytes: UnsafeRawBufferPointer, parsingSpecial: Bool) -> [Int32] { fatalError("stub") }

    /// Token ids, and for each the range of UTF-8 bytes of `text` that it covers.
    public func encodeWithRanges(_ text: String) -> (ids: [Int32], ranges: [Range<Int>]) { fatalError("stub") }

    /// The text of `ids`; bytes that are not UTF-8 become U+FFFD.
    public func decode(_ ids: [Int32], skippingSpecial: Bool = true) -> String { fatalError("stub") }

    /// The bytes a token stands for.
    public func bytes(of id: Int32) -> [UInt8] { fatalError("stub") }

    /// The text of a token as the vocabulary has it, and back.
    public func token(of id: Int32) -> String? { fatalError("stub") }
    public func id(of token: String) -> Int32? { fatalError("stub") }
    public func isSpecial(_ id: Int32) -> Bool { fatalError("stub") }
}

/// Turns a stream of token ids into text, never splitting a character.
public struct StreamingDecoder: Sendable {
    public init(tokenizer: Tokenizer, skippingSpecial: Bool = true) { fatalError("stub") }

    /// Text that is complete after `id`; may be empty.
    public mutating func append(_ id: Int32) -> String { fatalError("stub") }

    /// What is left, with U+FFFD for bytes that are not UTF-8.
    public mutating func finish() -> String { fatalError("stub") }
}
