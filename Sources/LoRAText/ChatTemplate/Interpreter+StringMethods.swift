extension Interpreter {
    func callMethod(_ name: String, of text: Text, _ arguments: ArgumentValues) throws(TemplateError) -> Value {
        try charge(text.count)
        switch name {
        case "strip", "lstrip", "rstrip":
            let values = try positional(arguments, ["chars"], name)
            let characters = try optionalText(values[0], "chars", of: name)
            return .string(text.stripped(characters, leading: name != "rstrip", trailing: name != "lstrip"))
        case "split", "rsplit": return try split(text, name, arguments)
        case "splitlines":
            let values = try arguments.bind(["keepends"], for: name, at: line)
            let keepsEnds = try flag(values[0])
            return try list(text.lines(keepingEnds: keepsEnds))
        case "startswith", "endswith": return .bool(try hasAffix(text, name, arguments))
        case "replace":
            let values = try positional(arguments, ["old", "new", "count"], name)
            let (old, new) = (try self.text(values[0], "old", of: name), try self.text(values[1], "new", of: name))
            return .string(try replace(old, with: new, in: text, count: try integer(values[2], -1, "count", of: name)))
        case "join":
            let values = try positional(arguments, ["iterable"], name)
            guard let iterable = values[0] else { throw failure("'join' needs the argument 'iterable'") }
            return .string(try join(try strings(in: iterable), text))
        case "find", "rfind", "index", "rindex", "count": return .int(try search(text, name, arguments))
        case "removeprefix", "removesuffix":
            let affix = try self.text(try positional(arguments, ["affix"], name)[0], "affix", of: name)
            if name == "removeprefix" {
                return .string(text.hasPrefix(affix) ? Text(text.scalars[affix.count...]) : text)
            }
            return .string(text.hasSuffix(affix) ? Text(text.scalars[..<(text.count - affix.count)]) : text)
        case "partition", "rpartition": return try partition(text, name, arguments)
        case "ljust", "rjust", "center", "zfill": return .string(try pad(text, name, arguments))
        case "format": return .string(try format(text, arguments))
        default: return try callPlainMethod(name, of: text, arguments)
        }
    }

    private func positional(
        _ arguments: ArgumentValues, _ names: [String], _ function: String
    ) throws(TemplateError) -> [Value?] {
        guard arguments.keywords.isEmpty else { throw failure("'\(function)' takes no named arguments") }
        return try arguments.bind(names, for: function, at: line)
    }

    func list(_ texts: [Text]) throws(TemplateError) -> Value { .list(try makeList(texts.map { .string($0) })) }

    private func strings(in iterable: Value) throws(TemplateError) -> [Text] {
        var strings: [Text] = []
        for element in try elements(of: iterable) { strings.append(try text(element, "elements", of: "join")) }
        return strings
    }

    func join(_ texts: [Text], _ separator: Text) throws(TemplateError) -> Text {
        var joined: [Unicode.Scalar] = []
        for (index, text) in texts.enumerated() {
            try charge(text.count + separator.count)
            if index > 0 { joined.append(contentsOf: separator.scalars) }
            joined.append(contentsOf: text.scalars)
        }
        return Text(joined)
    }

    func replace(_ old: Text, with new: Text, in text: Text, count: Int) throws(TemplateError) -> Text {
        let limit = count < 0 ? Int.max : count
        let found = old.isEmpty ? Array(0...text.count).prefix(limit) : text.indices(of: old.scalars, limit: limit)[...]
        let (growth, overflow) = found.count.multipliedReportingOverflow(by: new.count)
        try charge(overflow ? .max : text.count + growth)
        var result: [Unicode.Scalar] = []
        var position = 0
        for index in found {
            result.append(contentsOf: text.scalars[position..<index])
            result.append(contentsOf: new.scalars)
            position = index + old.count
        }
        result.append(contentsOf: text.scalars[position...])
        return Text(result)
    }

    // MARK: Splitting

    private func split(_ text: Text, _ name: String, _ arguments: ArgumentValues) throws(TemplateError) -> Value {
        let values = try arguments.bind(["sep", "maxsplit"], for: name, at: line)
        let limit = try integer(values[1], -1, "maxsplit", of: name)
        let fromEnd = name == "rsplit"
        guard let separator = try optionalText(values[0], "sep", of: name) else {
            return try list(splitAtSpace(text, limit: limit < 0 ? .max : limit, fromEnd: fromEnd))
        }
        guard !separator.isEmpty else { throw failure("'\(name)' needs a separator that is not empty") }
        return try list(split(text, at: separator, limit: limit < 0 ? .max : limit, fromEnd: fromEnd))
    }

    private func split(_ text: Text, at separator: Text, limit: Int, fromEnd: Bool) -> [Text] {
        if fromEnd {
            let mirrored = split(text.reversed, at: separator.reversed, limit: limit, fromEnd: false)
            return mirrored.reversed().map(\.reversed)
        }
        var parts: [Text] = []
        var start = 0
        for index in text.indices(of: separator.scalars, limit: limit) {
            parts.append(Text(text.scalars[start..<index]))
            start = index + separator.count
        }
        parts.append(Text(text.scalars[start...]))
        return parts
    }

    private func splitAtSpace(_ text: Text, limit: Int, fromEnd: Bool) -> [Text] {
        if fromEnd {
            return splitAtSpace(text.reversed, limit: limit, fromEnd: false).reversed().map(\.reversed)
        }
        var parts: [Text] = []
        var position = 0
        while true {
            while position < text.count && text.scalars[position].isPythonSpace { position += 1 }
            guard position < text.count else { return parts }
            if parts.count == limit {
                parts.append(Text(text.scalars[position...]))
                return parts
            }
            let start = position
            while position < text.count && !text.scalars[position].isPythonSpace { position += 1 }
            parts.append(Text(text.scalars[start..<position]))
        }
    }

    private func partition(_ text: Text, _ name: String, _ arguments: ArgumentValues) throws(TemplateError) -> Value {
        let separator = try self.text(try positional(arguments, ["sep"], name)[0], "sep", of: name)
        guard !separator.isEmpty else { throw failure("'\(name)' needs a separator that is not empty") }
        let parts = split(text, at: separator, limit: 1, fromEnd: name == "rpartition")
        let empty = Text("")
        let found = parts.count == 2
        let three: [Text] =
            found
            ? [parts[0], separator, parts[1]] : name == "partition" ? [text, empty, empty] : [empty, empty, text]
        return .tuple(try makeList(three.map { .string($0) }))
    }

    // MARK: Searching

    /// The part of `text` between optional start and end arguments, and where it starts; nothing when it starts
    /// behind the end, where Python does not even find the empty string.
    private func window(_ text: Text, _ values: [Value?], _ name: String) throws(TemplateError) -> (Text, Int)? {
        func clamped(_ value: Value?, _ fallback: Int) throws(TemplateError) -> Int {
            if case .none? = value { return fallback }
            let index = try integer(value, fallback, "index", of: name)
            return index < 0 ? max(0, max(index, -text.count) + text.count) : index
        }
        let start = try clamped(values[1], 0)
        let end = min(try clamped(values[2], text.count), text.count)
        guard start <= end else { return nil }
        return start == 0 && end == text.count ? (text, 0) : (Text(text.scalars[start..<end]), start)
    }

    private func hasAffix(_ text: Text, _ name: String, _ arguments: ArgumentValues) throws(TemplateError) -> Bool {
        let values = try positional(arguments, ["prefix", "start", "end"], name)
        guard let affix = values[0] else { throw failure("'\(name)' needs a string") }
        guard let (part, _) = try window(text, values, name) else { return false }
        var candidates = [affix]
        if case .tuple(let tuple) = affix { candidates = tuple.elements }
        for candidate in candidates {
            let candidate = try self.text(candidate, "prefix", of: name)
            if name == "startswith" ? part.hasPrefix(candidate) : part.hasSuffix(candidate) { return true }
        }
        return false
    }

    private func search(_ text: Text, _ name: String, _ arguments: ArgumentValues) throws(TemplateError) -> Int {
        let values = try positional(arguments, ["sub", "start", "end"], name)
        let needle = try self.text(values[0], "sub", of: name)
        let window = try window(text, values, name)
        var found: Int?
        if let (part, offset) = window {
            switch name {
            case "count": return needle.isEmpty ? part.count + 1 : part.indices(of: needle.scalars).count
            case "find", "index": found = part.firstIndex(of: needle.scalars).map { $0 + offset }
            default:
                found = part.reversed.firstIndex(of: needle.reversed.scalars).map {
                    part.count - $0 - needle.count + offset
                }
            }
        }
        if name == "count" { return 0 }
        if found == nil && name.hasSuffix("index") { throw failure("'\(name)' did not find the substring") }
        return found ?? -1
    }

    // MARK: Padding and plain methods

    private func pad(_ text: Text, _ name: String, _ arguments: ArgumentValues) throws(TemplateError) -> Text {
        let values = try positional(arguments, name == "zfill" ? ["width"] : ["width", "fillchar"], name)
        let width = try integer(values[0], nil, "width", of: name)
        guard width > text.count else { return text }
        try charge(width)
        let missing = width - text.count
        if name == "zfill" {
            let sign = text.scalars.first.map { $0 == "+" || $0 == "-" } == true ? 1 : 0
            let zeros = [Unicode.Scalar](repeating: "0", count: missing)
            return Text(text.scalars[..<sign] + zeros + text.scalars[sign...])
        }
        let fill = values[1] == nil ? nil : try self.text(values[1], "fillchar", of: name)
        guard fill.map({ $0.count == 1 }) ?? true else { throw failure("'fillchar' must be one character") }
        // `center` puts the odd one left of text with an odd count, as CPython does.
        let left = name == "rjust" ? missing : name == "ljust" ? 0 : missing / 2 + (missing & width & 1)
        let character = fill?.scalars.first ?? " "
        return Text(
            [Unicode.Scalar](repeating: character, count: left) + text.scalars
                + [Unicode.Scalar](repeating: character, count: missing - left))
    }

    private func callPlainMethod(
        _ name: String, of text: Text, _ arguments: ArgumentValues
    ) throws(TemplateError) -> Value {
        _ = try arguments.bind([], for: name, at: line)
        func all(_ test: (Unicode.Scalar) -> Bool) -> Value { .bool(!text.isEmpty && text.scalars.allSatisfy(test)) }
        switch name {
        case "upper": return .string(text.uppercased())
        case "lower": return .string(text.lowercased())
        case "title": return .string(text.titlecased())
        case "capitalize": return .string(text.capitalized())
        case "swapcase": return .string(text.caseSwapped())
        case "isupper": return .bool(text.isUppercase)
        case "islower": return .bool(text.isLowercase)
        case "isspace": return all(\.isPythonSpace)
        case "isalpha": return all(\.isPythonAlphabetic)
        case "isalnum": return all(\.isPythonAlphanumeric)
        case "isdecimal": return all { $0.properties.numericType == .decimal }
        case "isdigit": return all { $0.properties.numericType == .decimal || $0.properties.numericType == .digit }
        case "isnumeric": return all { $0.properties.numericType != nil }
        default: throw failure("the method '\(name)' of strings is not supported")
        }
    }
}

extension Text {
    var reversed: Text { Text(Array(scalars.reversed())) }

    /// With the characters that HTML reserves replaced, unless it was already done.
    var escaped: Text {
        if isMarkup { return self }
        var result: [Unicode.Scalar] = []
        for scalar in scalars {
            switch scalar {
            case "&": result.append("&amp;")
            case "<": result.append("&lt;")
            case ">": result.append("&gt;")
            case "'": result.append("&#39;")
            case "\"": result.append("&#34;")
            default: result.append(scalar)
            }
        }
        return Text(result, isMarkup: true)
    }
}
