/// Turns a stream of token ids into text, never splitting a character (a Unicode scalar).
///
/// What `append` and `finish` return, put together, is what `Tokenizer.decode` gives for the same ids.
public struct StreamingDecoder: Sendable {
    private let tokenizer: Tokenizer
    private let skippingSpecial: Bool
    /// The beginning of a character whose other bytes are still to come: at most three bytes.
    private var pending: [UInt8] = []

    /// A decoder at the beginning of a text.
    public init(tokenizer: Tokenizer, skippingSpecial: Bool = true) {
        self.tokenizer = tokenizer
        self.skippingSpecial = skippingSpecial
    }

    /// Text that is complete after `id`; may be empty.
    public mutating func append(_ id: Int32) -> String {
        if skippingSpecial && tokenizer.isSpecial(id) { return "" }
        var bytes = pending
        bytes.append(contentsOf: tokenizer.bytes(of: id))
        let complete = bytes.count - Self.unfinishedCount(at: bytes)
        pending = Array(bytes[complete...])
        return String(decoding: bytes[..<complete], as: UTF8.self)
    }

    /// What is left, with U+FFFD for bytes that are not UTF-8.
    public mutating func finish() -> String {
        defer { pending = [] }
        return String(decoding: pending, as: UTF8.self)
    }

    /// How many bytes at the end could still become a well-formed character.
    private static func unfinishedCount(at bytes: [UInt8]) -> Int {
        for count in 1...3 where count <= bytes.count {
            let lead = bytes[bytes.count - count]
            if lead & 0xC0 == 0x80 { continue }
            return isUnfinished(bytes[(bytes.count - count)...]) ? count : 0
        }
        return 0
    }

    /// Whether `bytes`, a lead byte and what follows, is a proper beginning of a well-formed character: the second
    /// byte must already exclude overlong forms, surrogates and values past U+10FFFF (Unicode, table 3-7).
    private static func isUnfinished(_ bytes: ArraySlice<UInt8>) -> Bool {
        guard let lead = bytes.first else { return false }
        let length: Int
        var second: ClosedRange<UInt8> = 0x80...0xBF
        switch lead {
        case 0xC2...0xDF: length = 2
        case 0xE0: (length, second) = (3, 0xA0...0xBF)
        case 0xED: (length, second) = (3, 0x80...0x9F)
        case 0xE1...0xEF: length = 3
        case 0xF0: (length, second) = (4, 0x90...0xBF)
        case 0xF4: (length, second) = (4, 0x80...0x8F)
        case 0xF1...0xF3: length = 4
        default: return false
        }
        guard bytes.count < length else { return false }
        return bytes.dropFirst().first.map(second.contains) ?? true
    }
}
