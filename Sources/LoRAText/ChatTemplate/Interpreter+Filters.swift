import OrderedCollections

extension Interpreter {
    /// All of Jinja's filters; the second group exists but is not made here.
    static let filters: Set<String> = [
        "abs", "attr", "batch", "capitalize", "center", "count", "d", "default", "dictsort", "e", "escape", "first",
        "float", "forceescape", "format", "groupby", "indent", "int", "items", "join", "last", "length", "list",
        "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "safe", "select",
        "selectattr", "slice", "sort", "string", "sum", "title", "tojson", "trim", "truncate", "unique", "upper",
        "wordcount",
    ]
    static let unsupportedFilters: Set<String> = [
        "filesizeformat", "pprint", "random", "striptags", "urlencode", "urlize", "wordwrap", "xmlattr",
    ]
    /// Filters that give the same for HTML-safe text as for any other.
    private static let markupFilters: Set<String> = [
        "count", "d", "default", "e", "escape", "first", "float", "forceescape", "int", "last", "length", "list",
        "safe", "string", "tojson", "wordcount",
    ]

    func applyFilter(_ name: String, to value: Value, _ arguments: ArgumentValues) throws(TemplateError) -> Value {
        guard Interpreter.filters.contains(name) else {
            throw failure(
                Interpreter.unsupportedFilters.contains(name)
                    ? "the filter '\(name)' is not supported" : "there is no filter '\(name)'")
        }
        if case .string(let text) = value, text.isMarkup, !Interpreter.markupFilters.contains(name) {
            throw failure("the filter '\(name)' is not supported on HTML-safe text")
        }
        switch name {
        case "abs", "float", "int", "round", "sum", "min", "max":
            return try applyNumberFilter(name, to: value, arguments)
        case "batch", "dictsort", "first", "groupby", "items", "join", "last", "length", "count", "list", "map",
            "reject", "rejectattr", "reverse", "select", "selectattr", "slice", "sort", "unique":
            return try applySequenceFilter(name, to: value, arguments)
        case "attr":
            let attribute = try text(try arguments.bind(["name"], for: name, at: line)[0], "name", of: name)
            if case .dict = value {
                throw failure("the filter 'attr' is not supported on mappings")
            }
            return try self.attribute(Member(attribute.string), of: value)
        case "d", "default":
            let values = try arguments.bind(["default_value", "boolean"], for: name, at: line)
            let boolean = try flag(values[1])
            let isFalse = try !isTrue(value)
            return value.isUndefined || (boolean && isFalse) ? values[0] ?? .text("") : value
        case "tojson": return .string(try json(value, arguments))
        default: return try applyTextFilter(name, to: value, arguments)
        }
    }

    // MARK: Text

    private func applyTextFilter(
        _ name: String, to value: Value, _ arguments: ArgumentValues
    ) throws(TemplateError) -> Value {
        if name == "indent" || name == "truncate" { return try applyLineFilter(name, to: value, arguments) }
        let text = try string(value)
        try charge(text.count)
        switch name {
        case "trim":
            let characters = try arguments.bind(["chars"], for: name, at: line)[0]
            return .string(text.stripped(try optionalText(characters, "chars", of: name)))
        case "replace":
            let values = try arguments.bind(["old", "new", "count"], for: name, at: line)
            guard let old = values[0], let new = values[1] else { throw failure("'replace' needs 'old' and 'new'") }
            var count = -1
            if let limit = values[2], case .int(let int)? = Number(limit) { count = int }
            let plain = Text(text.scalars)
            return .string(try replace(try string(old), with: try string(new), in: plain, count: count))
        case "format":
            let (values, names) = (arguments.positional, arguments.keywords)
            guard names.isEmpty else { throw failure("named arguments of 'format' are not supported") }
            return try printf(text, .tuple(try makeList(values)))
        case "center":
            let width = try integer(try arguments.bind(["width"], for: name, at: line)[0], 80, "width", of: name)
            return try callMethod("center", of: text, ArgumentValues(positional: [.int(width)]))
        default: break
        }
        _ = try arguments.bind([], for: name, at: line)
        switch name {
        case "capitalize": return .string(text.capitalized())
        case "lower": return .string(text.lowercased())
        case "upper": return .string(text.uppercased())
        case "title": return .string(text.wordsCapitalized())
        case "string": return .string(text)
        case "safe": return .string(Text(text.scalars, isMarkup: true))
        case "e", "escape": return .string(text.escaped)
        case "forceescape": return .string(Text(text.scalars).escaped)
        default: return .int(wordCount(text))
        }
    }

    /// Runs of what the regular expression `\w` matches.
    private func wordCount(_ text: Text) -> Int {
        var count = 0
        var isInWord = false
        for scalar in text.scalars {
            let isWord = scalar == "_" || scalar.isPythonAlphanumeric
            if isWord && !isInWord { count += 1 }
            isInWord = isWord
        }
        return count
    }

    private func applyLineFilter(
        _ name: String, to value: Value, _ arguments: ArgumentValues
    ) throws(TemplateError) -> Value {
        let text = try text(value, "value", of: name)
        try charge(text.count)
        return .string(
            name == "indent" ? try indent(text, arguments) : try truncate(text, arguments))
    }

    private func indent(_ text: Text, _ arguments: ArgumentValues) throws(TemplateError) -> Text {
        let values = try arguments.bind(["width", "first", "blank"], for: "indent", at: line)
        let indentation: [Unicode.Scalar]
        if case .string(let text)? = values[0] {
            indentation = text.scalars
        } else {
            let width = try integer(values[0], 4, "width", of: "indent")
            try charge(max(0, width))
            indentation = Array(repeating: " ", count: max(0, width))
        }
        let first = try flag(values[1])
        let blank = try flag(values[2])
        var result: [Unicode.Scalar] = first ? indentation : []
        for (index, line) in Text(text.scalars + ["\n"]).lines().enumerated() {
            try charge(line.count + indentation.count)
            if index > 0 {
                result.append("\n")
                if blank || !line.isEmpty { result.append(contentsOf: indentation) }
            }
            result.append(contentsOf: line.scalars)
        }
        return Text(result)
    }

    private func truncate(_ text: Text, _ arguments: ArgumentValues) throws(TemplateError) -> Text {
        let values = try arguments.bind(["length", "killwords", "end", "leeway"], for: "truncate", at: line)
        let length = try integer(values[0], 255, "length", of: "truncate")
        let killsWords = try flag(values[1])
        let end = try optionalText(values[2], "end", of: "truncate") ?? Text("...")
        let leeway = try integer(values[3], 5, "leeway", of: "truncate")
        guard length >= end.count, leeway >= 0 else {
            throw failure("'truncate' needs a length of at least \(end.count)")
        }
        if text.count - leeway <= length { return text }
        let kept = text.scalars[..<(length - end.count)]
        let lastSpace = killsWords ? nil : kept.lastIndex(of: " ")
        return Text(Array(kept[..<(lastSpace ?? kept.endIndex)]) + end.scalars)
    }

    // MARK: Numbers

    private func applyNumberFilter(
        _ name: String, to value: Value, _ arguments: ArgumentValues
    ) throws(TemplateError) -> Value {
        switch name {
        case "abs":
            _ = try arguments.bind([], for: name, at: line)
            guard let number = Number(value) else { throw failure("'abs' needs a number, not '\(value.typeName)'") }
            if case .float(let float) = number { return .float(float.magnitude) }
            return number.order(.int(0)) == -1 ? try apply(.minus, to: value) : try apply(.plus, to: value)
        case "float":
            let values = try arguments.bind(["default"], for: name, at: line)
            try refuseUndefined(value)
            return parsedFloat(value).map { .float($0) } ?? values[0] ?? .float(0)
        case "int": return try int(value, arguments)
        case "round": return try round(value, arguments)
        case "sum": return try sum(value, arguments)
        default: return try extremum(name, value, arguments)
        }
    }

    private func parsedFloat(_ value: Value) -> Double? {
        if let number = Number(value) { return number.double }
        guard case .string(let text) = value else { return nil }
        let trimmed = text.stripped().string.lowercased()
        let unsigned = trimmed.first == "-" || trimmed.first == "+" ? trimmed.dropFirst() : trimmed[...]
        if ["inf", "infinity"].contains(unsigned) { return trimmed.first == "-" ? -Double.infinity : .infinity }
        if unsigned == "nan" { return .nan }
        guard let first = unsigned.first, first.isASCII, first.isNumber || first == ".",
            let digits = withoutUnderscores(trimmed),
            digits.utf8.allSatisfy({ ("0"..."9").contains(Unicode.Scalar($0)) || "+-.e".utf8.contains($0) })
        else { return nil }
        var literal = digits
        if literal.hasSuffix(".") { literal += "0" }
        literal = literal.split(separator: "e", omittingEmptySubsequences: false)
            .map { $0.hasSuffix(".") ? $0 + "0" : String($0) }.joined(separator: "e")
        return Double(literal)
    }

    /// Python lets single underscores stand between digits.
    private func withoutUnderscores(_ literal: String) -> String? {
        guard literal.utf8.contains(UInt8(ascii: "_")) else { return literal }
        let parts = literal.split(separator: "_", omittingEmptySubsequences: false)
        for (left, right) in zip(parts, parts.dropFirst()) {
            guard left.last?.isNumber == true, right.first?.isNumber == true else { return nil }
        }
        return parts.joined()
    }

    private func int(_ value: Value, _ arguments: ArgumentValues) throws(TemplateError) -> Value {
        let values = try arguments.bind(["default", "base"], for: "int", at: line)
        let base = try integer(values[1], 10, "base", of: "int")
        try refuseUndefined(value)
        if case .int(let int)? = Number(value) { return .int(int) }
        if case .string(let text) = value {
            guard [2, 8, 10, 16].contains(base) else { throw failure("'int' supports the bases 2, 8, 10 and 16") }
            if let int = try parsedInt(text.stripped().string, base: base) { return .int(int) }
        }
        if let float = parsedFloat(value), float.isFinite {
            guard let int = Int(exactly: float.rounded(.towardZero)) else {
                throw failure("integers beyond 64 bits are not supported")
            }
            return .int(int)
        }
        return values[0] ?? .int(0)
    }

    private func parsedInt(_ literal: String, base: Int) throws(TemplateError) -> Int? {
        var digits = literal.lowercased()[...]
        let isNegative = digits.first == "-"
        if isNegative || digits.first == "+" { digits = digits.dropFirst() }
        let prefix = [2: "0b", 8: "0o", 16: "0x"][base]
        if let prefix, digits.hasPrefix(prefix) {
            digits = digits.dropFirst(2)
            if digits.first == "_" { digits = digits.dropFirst() }
        }
        guard let plain = withoutUnderscores(String(digits)), !plain.isEmpty,
            plain.allSatisfy({ $0.isASCII && $0.hexDigitValue.map { $0 < base } == true })
        else { return nil }
        guard let value = Int((isNegative ? "-" : "") + plain, radix: base) else {
            throw failure("integers beyond 64 bits are not supported")
        }
        return value
    }

    private func round(_ value: Value, _ arguments: ArgumentValues) throws(TemplateError) -> Value {
        let values = try arguments.bind(["precision", "method"], for: "round", at: line)
        let precision = try integer(values[0], 0, "precision", of: "round")
        let method = try optionalText(values[1], "method", of: "round")?.string ?? "common"
        guard let number = Number(value) else { throw failure("'round' needs a number, not '\(value.typeName)'") }
        guard (0...15).contains(precision) else { throw failure("'round' supports a precision of 0 to 15") }
        if method == "common" {
            if case .int(let int) = number { return .int(int) }
            return .float(Double(fixed(number.double, decimals: precision)) ?? number.double)
        }
        guard method == "ceil" || method == "floor" else {
            throw failure("the method of 'round' must be 'common', 'ceil' or 'floor'")
        }
        var scale = 1.0
        for _ in 0..<precision { scale *= 10 }
        let scaled = (number.double * scale).rounded(method == "ceil" ? .up : .down)
        guard scaled.magnitude < 0x1p53 else { throw failure("'round' supports numbers below 2 ** 53") }
        return .float((scaled + 0.0) / scale)
    }

    private func sum(_ value: Value, _ arguments: ArgumentValues) throws(TemplateError) -> Value {
        let values = try arguments.bind(["attribute", "start"], for: "sum", at: line)
        var total = values[1] ?? .int(0)
        if case .string = total { throw failure("'sum' cannot add strings, use 'join'") }
        for element in try elements(of: value) { total = try apply(.add, total, try picked(element, values[0])) }
        return total
    }

    private func extremum(
        _ name: String, _ value: Value, _ arguments: ArgumentValues
    ) throws(TemplateError) -> Value {
        let values = try arguments.bind(["case_sensitive", "attribute"], for: name, at: line)
        let caseSensitive = try flag(values[0])
        var best: (value: Value, key: Value)?
        for element in try elements(of: value) {
            let key = try sortKey(try picked(element, values[1]), caseSensitive: caseSensitive)
            if let current = best {
                let order = name == "min" ? try order(key, current.key) : try order(current.key, key, ">")
                guard order == -1 else { continue }
            }
            best = (element, key)
        }
        return best?.value ?? .undefined(Undefined("no aggregated item, the sequence was empty"))
    }

    // MARK: Attributes of elements

    func sortKey(_ value: Value, caseSensitive: Bool) throws(TemplateError) -> Value {
        guard !caseSensitive, case .string(let text) = value else { return value }
        try charge(text.count)
        return .string(text.lowercased())
    }

    /// The element's attribute (`"a.b.0"`, or an integer), or the element itself without one.
    func picked(_ element: Value, _ attribute: Value?, default fallback: Value? = nil) throws(TemplateError) -> Value {
        var value = element
        switch attribute {
        case nil, .some(.none): return value
        case .string(let path)?:
            for part in path.string.split(separator: ".", omittingEmptySubsequences: false) {
                let isIndex = !part.isEmpty && part.utf8.allSatisfy { ("0"..."9").contains(Unicode.Scalar($0)) }
                value = try item(Int(part).flatMap { isIndex ? .int($0) : nil } ?? .text(String(part)), of: value)
                if value.isUndefined, let fallback { value = fallback }
            }
        case let index?:
            value = try item(index, of: value)
            if value.isUndefined, let fallback { value = fallback }
        }
        return value
    }
}
