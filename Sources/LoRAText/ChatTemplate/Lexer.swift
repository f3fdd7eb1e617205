/// A token of a template, with the line it begins in.
struct Token: Sendable {
    enum Kind: Sendable, Equatable {
        case data(Text)
        case blockBegin, blockEnd
        case variableBegin, variableEnd
        case name(String)
        case string(Text)
        case integer(Int)
        case float(Double)
        case symbol(String)
        case end
    }

    let kind: Kind
    let line: Int

    var isEndOfTag: Bool { kind == .blockEnd || kind == .variableEnd }
}

/// Cuts a template into tokens as Jinja does with `trim_blocks` and `lstrip_blocks`.
struct Lexer {
    /// What the sign inside a tag's delimiter says about the white space beside it.
    enum Sign { case none, minus, plus }

    let source: [Unicode.Scalar]
    var position = 0
    var line = 1
    var tokens: [Token] = []
    /// Whether the last match ended a line: white space before a tag is dropped only from the start of a line.
    private var isAtLineStart = true

    private init(_ text: String) {
        var scalars: [Unicode.Scalar] = []
        scalars.reserveCapacity(text.utf8.count)
        var previous: Unicode.Scalar = " "
        for scalar in text.unicodeScalars {
            if scalar == "\r" || (scalar == "\n" && previous != "\r") {
                scalars.append("\n")
            } else if scalar != "\n" {
                scalars.append(scalar)
            }
            previous = scalar
        }
        if scalars.last == "\n" { scalars.removeLast() }
        source = scalars
    }

    static func tokens(of text: String) throws(TemplateError) -> [Token] {
        guard text.utf8.count <= TemplateLimit.source else {
            throw TemplateError(
                line: 1, message: "the template has \(text.utf8.count) bytes, at most \(TemplateLimit.source) are read")
        }
        var lexer = Lexer(text)
        try lexer.run()
        return lexer.tokens
    }

    func error(_ message: String, line: Int? = nil) -> TemplateError {
        TemplateError(line: line ?? self.line, message: message)
    }

    func peek(_ offset: Int = 0) -> Unicode.Scalar? {
        let index = position + offset
        return index < source.count ? source[index] : nil
    }

    func isNext(_ text: StaticString, at offset: Int = 0) -> Bool {
        var index = position + offset
        return text.withUTF8Buffer { bytes in
            for byte in bytes {
                guard index < source.count, source[index].value == UInt32(byte) else { return false }
                index += 1
            }
            return true
        }
    }

    mutating func advance(_ count: Int) {
        for index in position..<(position + count) where source[index] == "\n" { line += 1 }
        position += count
    }

    mutating func skipSpace() {
        while let scalar = peek(), scalar.isPythonSpace { advance(1) }
    }

    mutating func add(_ kind: Token.Kind, line: Int? = nil) {
        tokens.append(Token(kind: kind, line: line ?? self.line))
    }

    private mutating func run() throws(TemplateError) {
        while position < source.count { try readText() }
        add(.end)
    }

    /// Reads text up to the next tag, and that tag.
    private mutating func readText() throws(TemplateError) {
        let start = position
        let startLine = line
        while position < source.count && !(isNext("{%") || isNext("{{") || isNext("{#")) { advance(1) }
        let text = source[start..<position]
        guard position < source.count else {
            if !text.isEmpty { add(.data(Text(text)), line: startLine) }
            return
        }
        let isVariable = isNext("{{")
        let sign: Sign = peek(2) == "-" ? .minus : peek(2) == "+" ? .plus : .none
        addText(text, before: sign, isVariable: isVariable, line: startLine)
        if isNext("{#") {
            advance(sign == .none ? 2 : 3)
            try skipComment()
        } else if let length = rawTagLength() {
            try readRaw(tagLength: length)
        } else {
            advance(sign == .none ? 2 : 3)
            try readTag(isVariable: isVariable)
        }
    }

    private mutating func addText(
        _ text: ArraySlice<Unicode.Scalar>, before sign: Sign, isVariable: Bool, line: Int
    ) {
        var end = text.endIndex
        if sign == .minus {
            while end > text.startIndex && text[end - 1].isPythonSpace { end -= 1 }
        } else if sign == .none && !isVariable {
            var lineStart = text.endIndex
            while lineStart > text.startIndex && text[lineStart - 1] != "\n" { lineStart -= 1 }
            let isOwnLine = lineStart > text.startIndex || isAtLineStart
            if isOwnLine && text[lineStart...].allSatisfy(\.isPythonSpace) { end = lineStart }
        }
        if end > text.startIndex { add(.data(Text(text[..<end])), line: line) }
    }

    /// Goes past a closing delimiter of `length`, with the white space that its sign or `trim_blocks` takes along.
    private mutating func close(_ length: Int, sign: Sign, trimsNewline: Bool) {
        advance(length)
        if sign == .minus {
            skipSpace()
        } else if sign == .none && trimsNewline && peek() == "\n" {
            advance(1)
        }
        isAtLineStart = source[position - 1] == "\n"
    }

    private mutating func skipComment() throws(TemplateError) {
        let start = line
        while position < source.count {
            if isNext("-#}") { return close(3, sign: .minus, trimsNewline: true) }
            if isNext("+#}") { return close(3, sign: .plus, trimsNewline: true) }
            if isNext("#}") { return close(2, sign: .none, trimsNewline: true) }
            advance(1)
        }
        throw error("the comment that begins here has no end: expected '#}'", line: start)
    }

    /// Length of `{% raw %}` with its signs and inner space, when that is what comes next.
    private func rawTagLength() -> Int? { blockTagLength(of: "raw") }

    private func blockTagLength(of name: StaticString) -> Int? {
        guard isNext("{%") else { return nil }
        var offset = 2
        if peek(offset) == "-" || peek(offset) == "+" { offset += 1 }
        while let scalar = peek(offset), scalar.isPythonSpace { offset += 1 }
        guard isNext(name, at: offset) else { return nil }
        offset += name.utf8CodeUnitCount
        while let scalar = peek(offset), scalar.isPythonSpace { offset += 1 }
        return isNext("%}", at: offset) || isNext("-%}", at: offset) || isNext("+%}", at: offset) ? offset : nil
    }

    /// Reads `{% raw %}…{% endraw %}`. The opening tag never takes the newline behind it along, as in Jinja.
    private mutating func readRaw(tagLength: Int) throws(TemplateError) {
        let start = line
        advance(tagLength)
        if isNext("+%}") { throw error("unexpected '+' at the end of a raw tag") }
        let minus = isNext("-%}")
        close(minus ? 3 : 2, sign: minus ? .minus : .none, trimsNewline: false)
        let textStart = position
        let textLine = line
        while position < source.count {
            guard let length = blockTagLength(of: "endraw") else {
                advance(1)
                continue
            }
            let sign: Sign = peek(2) == "-" ? .minus : peek(2) == "+" ? .plus : .none
            addText(source[textStart..<position], before: sign, isVariable: false, line: textLine)
            advance(length)
            let closing: Sign = isNext("-%}") ? .minus : isNext("+%}") ? .plus : .none
            return close(closing == .none ? 2 : 3, sign: closing, trimsNewline: true)
        }
        throw error("the raw block that begins here has no end: expected '{% endraw %}'", line: start)
    }

    /// Reads the tokens of a `{{ }}` or `{% %}`, delimiters included.
    private mutating func readTag(isVariable: Bool) throws(TemplateError) {
        let start = line
        add(isVariable ? .variableBegin : .blockBegin)
        var open: [String] = []
        while true {
            skipSpace()
            guard position < source.count else {
                throw error("the tag that begins here has no end: expected '\(isVariable ? "}}" : "%}")'", line: start)
            }
            if open.isEmpty, let closing = closingDelimiter(isVariable: isVariable) {
                add(isVariable ? .variableEnd : .blockEnd)
                return close(closing.length, sign: closing.sign, trimsNewline: !isVariable)
            }
            try readToken(open: &open)
        }
    }

    private func closingDelimiter(isVariable: Bool) -> (length: Int, sign: Sign)? {
        if isVariable {
            if isNext("-}}") { return (3, .minus) }
            return isNext("}}") ? (2, .none) : nil
        }
        if isNext("+%}") { return (3, .plus) }
        if isNext("-%}") { return (3, .minus) }
        return isNext("%}") ? (2, .none) : nil
    }
}
