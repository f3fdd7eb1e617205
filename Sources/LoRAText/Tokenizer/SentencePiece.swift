import LoRAFormats

/// How SentencePiece writes tokens: a space is "▁", and a byte for which there is no character `<0x0A>`.
package enum SentencePiece {
    /// U+2581.
    static let space: [UInt8] = [0xE2, 0x96, 0x81]

    /// The text of the token of `byte` alone.
    package static func text(of byte: UInt8) -> String {
        let digits = String(byte, radix: 16, uppercase: true)
        return digits.utf8.count == 1 ? "<0x0\(digits)>" : "<0x\(digits)>"
    }

    /// `text` with "▁" turned into spaces.
    package static func withSpaces(_ text: String) -> String {
        String(decoding: bytes(of: text), as: UTF8.self)
    }

    /// The bytes that a token stands for.
    static func bytes(of text: String, kind: TokenKind) -> [UInt8] {
        if kind == .byte, let byte = byte(of: text) { return [byte] }
        return bytes(of: text)
    }

    private static func bytes(of text: String) -> [UInt8] {
        var bytes: [UInt8] = []
        for scalar in text.unicodeScalars {
            if scalar == "▁" { bytes.append(0x20) } else { bytes.append(contentsOf: UTF8.encode(scalar) ?? .init()) }
        }
        return bytes
    }

    private static func byte(of text: String) -> UInt8? {
        guard text.utf8.count == 6, text.hasPrefix("<0x"), text.hasSuffix(">") else { return nil }
        return UInt8(text.dropFirst(3).dropLast(), radix: 16)
    }
}

/// Where SentencePiece's BPE puts a space before text.
package enum SpacePrefix: Sendable {
    case none
    /// Before each part of a text that stands between special tokens: what `tokenizer.ggml.add_space_prefix` means.
    case always
    /// The same, but for parts that begin with a space.
    case metaspaceAlways
    /// Before the text, unless it begins with a space or a special token.
    case metaspaceFirst

    /// The key that tells the last two apart, which only Hugging Face's tokenizers know.
    package static let metaspaceKey = "tokenizer.lora.prepend_scheme"

    /// The name of these two there.
    package var metaspaceScheme: String? {
        switch self {
        case .none, .always: nil
        case .metaspaceAlways: "always"
        case .metaspaceFirst: "first"
        }
    }

    /// - Throws: `FormatError` that names an unknown scheme.
    init(adds: Bool?, scheme: String?) throws(FormatError) {
        switch (adds ?? true, scheme) {
        case (false, _): self = .none
        case (true, nil): self = .always
        case (true, "always"): self = .metaspaceAlways
        case (true, "first"): self = .metaspaceFirst
        case (true, .some(let scheme)):
            throw FormatError("\(Self.metaspaceKey) is \(quoted(scheme)); expected \"always\" or \"first\"")
        }
    }

    /// Whether a space goes before `part`, which begins at `position` of the text.
    func applies(to part: UnsafeRawBufferPointer, at position: Int) -> Bool {
        let startsWithSpace = part.first == 0x20 || part.starts(with: SentencePiece.space)
        return switch self {
        case .none: false
        case .always: !part.isEmpty
        case .metaspaceAlways: !part.isEmpty && !startsWithSpace
        case .metaspaceFirst: !part.isEmpty && !startsWithSpace && position == 0
        }
    }
}
