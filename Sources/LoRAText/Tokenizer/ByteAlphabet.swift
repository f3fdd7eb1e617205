/// The alphabet in which byte-level BPE writes its tokens: each byte is one visible character (GPT-2, 2019).
///
/// Printable ASCII and most of Latin-1 stand for themselves; the 68 other bytes, in order, are U+0100 and on.
package enum ByteAlphabet {
    /// The scalar value of each byte's character.
    static let scalars: [UInt32] = {
        var next: UInt32 = 0x100
        return (UInt32(0)..<256).map { byte in
            switch byte {
            case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: return byte
            default:
                defer { next += 1 }
                return next
            }
        }
    }()

    /// The byte of each scalar value below 0x144, or -1.
    private static let bytes: [Int16] = {
        var table = [Int16](repeating: -1, count: 0x144)
        for (byte, scalar) in scalars.enumerated() { table[Int(scalar)] = Int16(byte) }
        return table
    }()

    /// Appends the UTF-8 form of the character that stands for `byte`.
    static func appendCharacter(of byte: UInt8, to text: inout [UInt8]) {
        let scalar = scalars[Int(byte)]
        if scalar < 0x80 {
            text.append(UInt8(truncatingIfNeeded: scalar))
        } else {
            text.append(UInt8(truncatingIfNeeded: 0xC0 | scalar >> 6))
            text.append(UInt8(truncatingIfNeeded: 0x80 | scalar & 0x3F))
        }
    }

    /// The text of the token of `byte` alone.
    package static func text(of byte: UInt8) -> String {
        var text: [UInt8] = []
        appendCharacter(of: byte, to: &text)
        return String(decoding: text, as: UTF8.self)
    }

    /// The bytes that `text` stands for, or nil when a character is not of this alphabet.
    static func bytes(of text: String) -> [UInt8]? {
        var result: [UInt8] = []
        result.reserveCapacity(text.utf8.count)
        for scalar in text.unicodeScalars {
            guard scalar.value < UInt32(bytes.count), bytes[Int(scalar.value)] >= 0 else { return nil }
            result.append(UInt8(truncatingIfNeeded: bytes[Int(scalar.value)]))
        }
        return result
    }
}
