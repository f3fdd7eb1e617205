extension Lexer {
    private static let symbols: [(text: StaticString, name: String)] = [
        ("**", "**"), ("//", "//"), ("==", "=="), ("!=", "!="), (">=", ">="), ("<=", "<="),
        ("+", "+"), ("-", "-"), ("/", "/"), ("*", "*"), ("%", "%"), ("~", "~"), ("[", "["), ("]", "]"), ("(", "("),
        (")", ")"), ("{", "{"), ("}", "}"), (">", ">"), ("<", "<"), ("=", "="), (".", "."), (":", ":"), ("|", "|"),
        (",", ","), (";", ";"),
    ]

    /// Reads one token inside a tag; `open` holds the closing brackets that are still owed.
    mutating func readToken(open: inout [String]) throws(TemplateError) {
        guard let scalar = peek() else { return }
        if isDigit(scalar) { return try readNumber() }
        if scalar == "_" || scalar.properties.isXIDStart { return readName() }
        if scalar == "'" || scalar == "\"" { return try readString(quote: scalar) }
        for (text, name) in Lexer.symbols where isNext(text) {
            try balance(name, open: &open)
            add(.symbol(name))
            return advance(name.utf8.count)
        }
        throw error("unexpected character '\(scalar)' in a tag")
    }

    private func balance(_ symbol: String, open: inout [String]) throws(TemplateError) {
        switch symbol {
        case "(": open.append(")")
        case "[": open.append("]")
        case "{": open.append("}")
        case ")", "]", "}":
            guard let expected = open.popLast() else { throw error("unexpected '\(symbol)'") }
            guard expected == symbol else { throw error("unexpected '\(symbol)', expected '\(expected)'") }
        default: break
        }
    }

    private func isDigit(_ scalar: Unicode.Scalar?) -> Bool {
        guard let scalar else { return false }
        return ("0"..."9").contains(scalar)
    }

    private mutating func readName() {
        let start = position
        while let scalar = peek(), scalar == "_" || scalar.properties.isXIDContinue { advance(1) }
        add(.name(Text(source[start..<position]).string))
    }

    /// Offset behind a run of digits with single underscores between them, or `offset` when there is none.
    private func digitsEnd(from offset: Int, where accepts: (Unicode.Scalar) -> Bool) -> Int {
        var end = offset
        var next = offset
        while let scalar = peek(next), accepts(scalar) {
            end = next + 1
            next = peek(end) == "_" ? end + 1 : end
        }
        return end
    }

    private mutating func readNumber() throws(TemplateError) {
        let isDecimal: (Unicode.Scalar) -> Bool = { ("0"..."9").contains($0) }
        var end = digitsEnd(from: 0, where: isDecimal)
        let integerEnd = end
        if position == 0 || source[position - 1] != "." {
            if peek(end) == ".", isDigit(peek(end + 1)) { end = digitsEnd(from: end + 1, where: isDecimal) }
            if peek(end) == "e" || peek(end) == "E" {
                let sign = peek(end + 1) == "+" || peek(end + 1) == "-" ? 1 : 0
                if isDigit(peek(end + 1 + sign)) { end = digitsEnd(from: end + 1 + sign, where: isDecimal) }
            }
        }
        if end > integerEnd {
            guard let value = Double(literal(end)) else { throw error("'\(literal(end))' is not a number") }
            add(.float(value))
            return advance(end)
        }
        try readInteger(decimalEnd: integerEnd)
    }

    private func literal(_ length: Int) -> String {
        Text(source[position..<(position + length)].filter { $0 != "_" }).string
    }

    private mutating func readInteger(decimalEnd: Int) throws(TemplateError) {
        let radixes: [(StaticString, Int)] = [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)]
        for (prefix, radix) in radixes where isNext(prefix) {
            let first = peek(2) == "_" ? 3 : 2
            let end = digitsEnd(from: first) { Int(String($0), radix: radix) != nil && $0.isASCII }
            guard end > first else { break }
            guard let value = Int(String(literal(end).dropFirst(2)), radix: radix) else {
                throw error("the integer '\(literal(end))' does not fit 64 bits")
            }
            add(.integer(value))
            return advance(end)
        }
        var end = decimalEnd
        if peek() == "0" { end = digitsEnd(from: 0) { $0 == "0" } }
        guard let value = Int(literal(end)) else { throw error("the integer '\(literal(end))' does not fit 64 bits") }
        add(.integer(value))
        advance(end)
    }

    private mutating func readString(quote: Unicode.Scalar) throws(TemplateError) {
        let start = line
        advance(1)
        var text: [Unicode.Scalar] = []
        while let scalar = peek() {
            advance(1)
            if scalar == quote { return add(.string(Text(text)), line: start) }
            if scalar == "\\" { try readEscape(into: &text) } else { text.append(scalar) }
        }
        throw error("the string that begins here has no end", line: start)
    }

    /// Python's string escapes; an unknown one stays as it is, backslash included.
    private mutating func readEscape(into text: inout [Unicode.Scalar]) throws(TemplateError) {
        guard let scalar = peek() else { return }
        let simple: [Unicode.Scalar: Unicode.Scalar] = [
            "n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", "\"": "\"", "a": "\u{7}", "b": "\u{8}",
            "f": "\u{C}", "v": "\u{B}",
        ]
        if let replacement = simple[scalar] {
            text.append(replacement)
            return advance(1)
        }
        switch scalar {
        case "\n": advance(1)
        case "0"..."7":
            var digits = 1
            while digits < 3, let next = peek(digits), ("0"..."7").contains(next) { digits += 1 }
            try appendEscape(skipping: 0, digits: digits, radix: 8, to: &text)
        case "x": try appendEscape(skipping: 1, digits: 2, radix: 16, to: &text)
        case "u": try appendEscape(skipping: 1, digits: 4, radix: 16, to: &text)
        case "U": try appendEscape(skipping: 1, digits: 8, radix: 16, to: &text)
        case "N": throw error("the escape '\\N{…}' is not supported, write the character itself")
        default:
            text.append("\\")
            // Jinja escapes what is not ASCII before it reads escapes, so the backslash then takes that escape's own.
            if !scalar.isASCII {
                text.append(contentsOf: Text.hexEscape(scalar).dropFirst().unicodeScalars)
                advance(1)
            }
        }
    }

    private mutating func appendEscape(
        skipping prefix: Int, digits: Int, radix: Int, to text: inout [Unicode.Scalar]
    ) throws(TemplateError) {
        guard position + prefix + digits <= source.count else { throw error("a string escape is cut off") }
        let digitText = Text(source[(position + prefix)..<(position + prefix + digits)]).string
        guard digitText.utf8.allSatisfy({ $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "-") }),
            let value = UInt32(digitText, radix: radix)
        else { throw error("'\\\(source[position])\(digitText)' is not a string escape") }
        guard let scalar = Unicode.Scalar(value) else {
            throw error("the string escape of code point \(String(value, radix: 16)) is not a Unicode scalar")
        }
        text.append(scalar)
        advance(prefix + digits)
    }
}
