import OrderedCollections

/// A recursive-descent parser of RFC 8259, stricter than the RFC where readers disagree: duplicate keys, lone
/// surrogates and numbers outside the range of a double are refused.
struct JSONParser {
    /// Deeper texts are refused: each level takes a stack frame, and no real file comes near.
    static let maximumDepth = 256

    private var position = 0
    /// The key whose objects become arrays of [key, value].
    private let listedKey: String?

    private init(listedKey: String?) { self.listedKey = listedKey }

    static func parse(_ text: Span<UInt8>, listing key: String? = nil) throws(FormatError) -> JSONValue {
        try validateUTF8(text)
        var parser = JSONParser(listedKey: key)
        if text.count >= 3, text[0] == 0xEF, text[1] == 0xBB, text[2] == 0xBF {
            throw FormatError("JSON starts with a byte order mark; remove its 3 bytes")
        }
        parser.skipSpace(text)
        let value = try parser.parseValue(text, depth: 0)
        parser.skipSpace(text)
        guard parser.position == text.count else { throw parser.unexpected(text, expected: "the end of the text") }
        return value
    }

    private static func validateUTF8(_ text: Span<UInt8>) throws(FormatError) {
        do throws(UTF8.ValidationError) {
            _ = try UTF8Span(validating: text)
        } catch {
            throw FormatError("JSON: invalid UTF-8 at byte \(error.byteOffsets.lowerBound); the text must be UTF-8")
        }
    }

    private func unexpected(_ text: Span<UInt8>, expected: String) -> FormatError {
        guard position < text.count else {
            return FormatError("JSON: expected \(expected) at byte \(position), found the end of the text")
        }
        let byte = text[position]
        let found =
            byte > 0x20 && byte < 0x7F
            ? "'\(Character(Unicode.Scalar(byte)))'" : "byte 0x\(String(byte, radix: 16))"
        return FormatError("JSON: expected \(expected) at byte \(position), found \(found)")
    }

    private mutating func skipSpace(_ text: Span<UInt8>) {
        while position < text.count {
            switch text[position] {
            case 0x20, 0x0A, 0x0D, 0x09: position += 1
            default: return
            }
        }
    }

    private func peek(_ text: Span<UInt8>) -> UInt8? { position < text.count ? text[position] : nil }

    private mutating func parseValue(_ text: Span<UInt8>, depth: Int) throws(FormatError) -> JSONValue {
        guard let byte = peek(text) else { throw unexpected(text, expected: "a value") }
        switch byte {
        case UInt8(ascii: "\""): return .string(try parseString(text))
        case UInt8(ascii: "{"): return try parseObject(text, depth: depth + 1)
        case UInt8(ascii: "["): return try parseArray(text, depth: depth + 1)
        case UInt8(ascii: "-"), 0x30...0x39: return try parseNumber(text)
        case UInt8(ascii: "t"):
            try parseWord(text, "true")
            return .bool(true)
        case UInt8(ascii: "f"):
            try parseWord(text, "false")
            return .bool(false)
        case UInt8(ascii: "n"):
            try parseWord(text, "null")
            return .null
        default: throw unexpected(text, expected: "a value")
        }
    }

    private mutating func parseWord(_ text: Span<UInt8>, _ word: StaticString) throws(FormatError) {
        for index in 0..<word.utf8CodeUnitCount {
            guard peek(text) == word.utf8Start[index] else { throw unexpected(text, expected: "\(word)") }
            position += 1
        }
    }

    // MARK: Containers

    private func checkDepth(_ depth: Int) throws(FormatError) {
        if depth > Self.maximumDepth {
            throw FormatError("JSON: nested deeper than \(Self.maximumDepth) levels at byte \(position)")
        }
    }

    private mutating func parseArray(_ text: Span<UInt8>, depth: Int) throws(FormatError) -> JSONValue {
        try checkDepth(depth)
        position += 1
        skipSpace(text)
        var elements: [JSONValue] = []
        if peek(text) == UInt8(ascii: "]") {
            position += 1
            return .array(elements)
        }
        while true {
            elements.append(try parseValue(text, depth: depth))
            skipSpace(text)
            switch peek(text) {
            case UInt8(ascii: ","):
                position += 1
                skipSpace(text)
            case UInt8(ascii: "]"):
                position += 1
                return .array(elements)
            default: throw unexpected(text, expected: "',' or ']'")
            }
        }
    }

    private mutating func parseObject(_ text: Span<UInt8>, depth: Int) throws(FormatError) -> JSONValue {
        try checkDepth(depth)
        position += 1
        skipSpace(text)
        var members: OrderedDictionary<String, JSONValue> = [:]
        if peek(text) == UInt8(ascii: "}") {
            position += 1
            return .object(members)
        }
        while true {
            try parseMember(text, into: &members, depth: depth)
            switch peek(text) {
            case UInt8(ascii: ","):
                position += 1
                skipSpace(text)
            case UInt8(ascii: "}"):
                position += 1
                return .object(members)
            default: throw unexpected(text, expected: "',' or '}'")
            }
        }
    }

    private mutating func parseMember(
        _ text: Span<UInt8>, into members: inout OrderedDictionary<String, JSONValue>, depth: Int
    ) throws(FormatError) {
        let start = position
        let key = try parseKey(text)
        let isListed = key == listedKey && peek(text) == UInt8(ascii: "{")
        let value = try isListed ? parseList(text, depth: depth + 1) : parseValue(text, depth: depth)
        guard members.updateValue(value, forKey: key) == nil else {
            throw FormatError("JSON: duplicate key \(FormatError.quoted(key)) at byte \(start)")
        }
        skipSpace(text)
    }

    /// A key and the colon after it.
    private mutating func parseKey(_ text: Span<UInt8>) throws(FormatError) -> String {
        guard peek(text) == UInt8(ascii: "\"") else { throw unexpected(text, expected: "a key in quotes") }
        let key = try parseString(text)
        skipSpace(text)
        guard peek(text) == UInt8(ascii: ":") else { throw unexpected(text, expected: "':'") }
        position += 1
        skipSpace(text)
        return key
    }

    /// An object as an array of [key, value].
    private mutating func parseList(_ text: Span<UInt8>, depth: Int) throws(FormatError) -> JSONValue {
        try checkDepth(depth)
        var entries: [JSONValue] = []
        repeat {
            position += 1
            skipSpace(text)
            if entries.isEmpty && peek(text) == UInt8(ascii: "}") { break }
            entries.append(.array([.string(try parseKey(text)), try parseValue(text, depth: depth)]))
            skipSpace(text)
        } while peek(text) == UInt8(ascii: ",")
        guard peek(text) == UInt8(ascii: "}") else { throw unexpected(text, expected: "',' or '}'") }
        position += 1
        return .array(entries)
    }

    // MARK: Numbers

    private mutating func parseNumber(_ text: Span<UInt8>) throws(FormatError) -> JSONValue {
        let start = position
        let negative = text[position] == UInt8(ascii: "-")
        if negative { position += 1 }
        // Accumulated below zero, where Int64 reaches one further.
        var integer: Int64? = 0
        let firstDigit = position
        while let byte = peek(text), byte >= 0x30, byte <= 0x39 {
            integer = integer.flatMap { Self.appending(digit: Int64(byte - 0x30), to: $0) }
            position += 1
        }
        guard position > firstDigit else { throw unexpected(text, expected: "a digit") }
        if text[firstDigit] == 0x30, position > firstDigit + 1 {
            throw FormatError("JSON: a number with a leading zero at byte \(start)")
        }
        let isWhole = try !skipFractionAndExponent(text)
        if isWhole, let integer {
            if negative { return .integer(integer) }
            if integer != .min { return .integer(-integer) }
        }
        let digits = text.extracting(start..<position).withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) }
        guard let value = Double(digits), value.isFinite else {
            throw FormatError("JSON: the number at byte \(start) is outside the range of a double")
        }
        return .number(value)
    }

    private static func appending(digit: Int64, to value: Int64) -> Int64? {
        let (product, overflow) = value.multipliedReportingOverflow(by: 10)
        let (difference, underflow) = product.subtractingReportingOverflow(digit)
        return overflow || underflow ? nil : difference
    }

    /// Whether there was a fraction or an exponent.
    private mutating func skipFractionAndExponent(_ text: Span<UInt8>) throws(FormatError) -> Bool {
        var found = false
        if peek(text) == UInt8(ascii: ".") {
            found = true
            position += 1
            try skipDigits(text)
        }
        if let byte = peek(text), byte | 0x20 == UInt8(ascii: "e") {
            found = true
            position += 1
            if let sign = peek(text), sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-") { position += 1 }
            try skipDigits(text)
        }
        return found
    }

    private mutating func skipDigits(_ text: Span<UInt8>) throws(FormatError) {
        let first = position
        while let byte = peek(text), byte >= 0x30, byte <= 0x39 { position += 1 }
        if position == first { throw unexpected(text, expected: "a digit") }
    }

    // MARK: Strings

    private mutating func parseString(_ text: Span<UInt8>) throws(FormatError) -> String {
        let start = position
        position += 1
        var runStart = position
        // Stays empty for strings without escapes, which are copied straight from the text.
        var decoded: [UInt8] = []
        while position < text.count {
            let byte = text[position]
            if byte == UInt8(ascii: "\"") {
                let run = text.extracting(runStart..<position)
                position += 1
                if decoded.isEmpty { return run.withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) } }
                run.withUnsafeBufferPointer { decoded.append(contentsOf: $0) }
                return String(decoding: decoded, as: UTF8.self)
            } else if byte == UInt8(ascii: "\\") {
                text.extracting(runStart..<position).withUnsafeBufferPointer { decoded.append(contentsOf: $0) }
                try parseEscape(text, into: &decoded)
                runStart = position
            } else if byte < 0x20 {
                throw unexpected(text, expected: "an escaped control character in a string")
            } else {
                position += 1
            }
        }
        throw FormatError("JSON: the string that starts at byte \(start) has no closing quote")
    }

    private mutating func parseEscape(_ text: Span<UInt8>, into decoded: inout [UInt8]) throws(FormatError) {
        position += 1
        guard let byte = peek(text) else { throw unexpected(text, expected: "an escape") }
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): decoded.append(byte)
        case UInt8(ascii: "b"): decoded.append(0x08)
        case UInt8(ascii: "f"): decoded.append(0x0C)
        case UInt8(ascii: "n"): decoded.append(0x0A)
        case UInt8(ascii: "r"): decoded.append(0x0D)
        case UInt8(ascii: "t"): decoded.append(0x09)
        case UInt8(ascii: "u"):
            position += 1
            let scalar = try parseUnicodeEscape(text)
            decoded.append(contentsOf: UTF8.encode(scalar).map { Array($0) } ?? [])
            return
        default: throw unexpected(text, expected: "one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u")
        }
        position += 1
    }

    /// The scalar of one `\uXXXX`, or of the two that make a surrogate pair; the cursor is past the first `u`.
    private mutating func parseUnicodeEscape(_ text: Span<UInt8>) throws(FormatError) -> Unicode.Scalar {
        let start = position - 2
        let high = try parseHexadecimal(text)
        if let scalar = Unicode.Scalar(high) { return scalar }
        if high < 0xDC00, position + 1 < text.count, text[position] == UInt8(ascii: "\\"),
            text[position + 1] == UInt8(ascii: "u")
        {
            position += 2
            let low = try parseHexadecimal(text)
            if low >= 0xDC00, low < 0xE000, let scalar = Unicode.Scalar(0x10000 + (high - 0xD800) << 10 + low - 0xDC00)
            {
                return scalar
            }
        }
        throw FormatError("JSON: lone surrogate at byte \(start); write the pair or the character itself")
    }

    private mutating func parseHexadecimal(_ text: Span<UInt8>) throws(FormatError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = peek(text), let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
                throw unexpected(text, expected: "a hexadecimal digit")
            }
            value = value << 4 | UInt32(digit)
            position += 1
        }
        return value
    }
}
