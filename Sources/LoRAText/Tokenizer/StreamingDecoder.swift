/// Turns a stream of token ids into text, never splitting a character (a Unicode scalar).
///
/// What `append` and `finish` return, put together, is what `Tokenizer.decode` gives for the same ids.
public struct StreamingDecoder: Sendable {
    private let tokenizer: Tokenizer
    private let skippingSpecial: Bool
    /// The beginning of a character whose other bytes are still to come: at most three bytes.
    private var pending: [UInt8] = []
    /// Whether the next byte is the first.
    private var isAtStart = true

    /// A decoder at the beginning of a text.
    public init(tokenizer: Tokenizer, skippingSpecial: Bool = true) {
        self.tokenizer = tokenizer
        self.skippingSpecial = skippingSpecial
    }

    /// Text that is complete after `id`; may be empty.
    public mutating func append(_ id: Int32) -> String {
        if skippingSpecial && tokenizer.isSpecial(id) { return "" }
        var bytes = pending
        let added = tokenizer.bytes(of: id)
        bytes.append(contentsOf: isAtStart && tokenizer.stripsSpace && added.first == 0x20 ? added[1...] : added[...])
        if !added.isEmpty { isAtStart = false }
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
    ///
    /// Holding back bytes that turn out to be ill-formed does no harm: they become U+FFFD a little later.
    private static func unfinishedCount(at bytes: [UInt8]) -> Int {
        for count in 1...3 where count <= bytes.count {
            let byte = bytes[bytes.count - count]
            if byte & 0xC0 != 0x80 { return count < length(lead: byte) ? count : 0 }
        }
        return 0
    }

    /// The length of the character that `lead` begins, or 1 when no character begins with it.
    private static func length(lead: UInt8) -> Int {
        switch lead {
        case 0xC2...0xDF: 2
        case 0xE0...0xEF: 3
        case 0xF0...0xF4: 4
        default: 1
        }
    }
}
