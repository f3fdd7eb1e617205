import OrderedCollections

extension Interpreter {
    /// How transformers' `tojson` writes: `json.dumps` that leaves what is not ASCII alone.
    private struct JSONStyle {
        var escapesNonASCII = false
        var sortsKeys = false
        /// One level of indentation, or nothing for one line.
        var indentation: [Unicode.Scalar]?
        var itemSeparator = Array(", ".unicodeScalars)
        var keySeparator = Array(": ".unicodeScalars)
    }

    func json(_ value: Value, _ arguments: ArgumentValues) throws(TemplateError) -> Text {
        let names = ["ensure_ascii", "indent", "separators", "sort_keys"]
        let values = try arguments.bind(names, for: "tojson", at: line)
        var style = JSONStyle()
        if let value = values[0] { style.escapesNonASCII = try isTrue(value) }
        if let value = values[3] { style.sortsKeys = try isTrue(value) }
        switch values[1] {
        case nil, .some(.none): break
        case .string(let text)?: style.indentation = text.scalars
        case let width?:
            let width = try integer(width, nil, "indent", of: "tojson")
            try charge(max(0, width))
            style.indentation = Array(repeating: " ", count: max(0, width))
        }
        if style.indentation != nil { style.itemSeparator = [","] }
        switch values[2] {
        case nil, .some(.none): break
        case .tuple(let pair)?, .list(let pair)?:
            guard pair.elements.count == 2 else { throw failure("'separators' of 'tojson' must be two strings") }
            style.itemSeparator = try text(pair.elements[0], "separators", of: "tojson").scalars
            style.keySeparator = try text(pair.elements[1], "separators", of: "tojson").scalars
        default: throw failure("'separators' of 'tojson' must be two strings")
        }
        var text: [Unicode.Scalar] = []
        try writeJSON(value, style, level: 0, into: &text)
        return Text(text)
    }

    private func writeJSON(
        _ value: Value, _ style: JSONStyle, level: Int, into text: inout [Unicode.Scalar]
    ) throws(TemplateError) {
        try step()
        switch value {
        case .none: text.append("null")
        case .bool(let bool): text.append(bool ? "true" : "false")
        case .int(let int): text.append(String(int))
        case .float(let float): text.append(jsonFloat(float))
        case .string(let string):
            try charge(string.count)
            writeJSON(string, style, into: &text)
        case .list(let list), .tuple(let list):
            try writeJSON(list.elements, "[", "]", style, level, into: &text) { element, text throws(TemplateError) in
                try self.writeJSON(element, style, level: level + 1, into: &text)
            }
        case .dict(let dict):
            let entries = try jsonEntries(dict.entries, style)
            try writeJSON(entries, "{", "}", style, level, into: &text) { entry, text throws(TemplateError) in
                try self.charge(entry.key.count)
                self.writeJSON(entry.key, style, into: &text)
                text.append(contentsOf: style.keySeparator)
                try self.writeJSON(entry.value, style, level: level + 1, into: &text)
            }
        default: throw failure("a value of type '\(value.typeName)' is not JSON serializable")
        }
        guard text.count <= TemplateLimit.output else {
            throw failure("'tojson' writes more than \(TemplateLimit.output) characters")
        }
    }

    private func jsonFloat(_ float: Double) -> String {
        if float.isNaN { return "NaN" }
        if float.isInfinite { return float < 0 ? "-Infinity" : "Infinity" }
        return Number.description(of: float)
    }

    private func writeJSON<Element>(
        _ elements: [Element], _ open: Unicode.Scalar, _ close: Unicode.Scalar, _ style: JSONStyle, _ level: Int,
        into text: inout [Unicode.Scalar],
        _ write: (Element, inout [Unicode.Scalar]) throws(TemplateError) -> Void
    ) throws(TemplateError) {
        text.append(open)
        for (index, element) in elements.enumerated() {
            if index > 0 { text.append(contentsOf: style.itemSeparator) }
            try breakLine(style, level + 1, into: &text)
            try nested { () throws(TemplateError) in try write(element, &text) }
        }
        if !elements.isEmpty { try breakLine(style, level, into: &text) }
        text.append(close)
    }

    private func breakLine(_ style: JSONStyle, _ level: Int, into text: inout [Unicode.Scalar]) throws(TemplateError) {
        guard let indentation = style.indentation else { return }
        try charge(1 + level * indentation.count)
        text.append("\n")
        for _ in 0..<level { text.append(contentsOf: indentation) }
    }

    private func jsonEntries(
        _ entries: OrderedDictionary<Key, Value>, _ style: JSONStyle
    ) throws(TemplateError) -> [(key: Text, value: Value)] {
        var keys = Array(entries.keys)
        if style.sortsKeys {
            let ordered = ArgumentValues(keywords: [("case_sensitive", .bool(true))])
            guard case .list(let list) = try applyFilter("sort", to: .list(try makeList(keys.map(\.value))), ordered)
            else { return [] }
            keys = list.elements.compactMap { Key($0) }
        }
        var result: [(key: Text, value: Value)] = []
        for key in keys {
            let name: Text
            switch key.value {
            case .string(let text): name = text
            case .bool(let bool): name = Text(bool ? "true" : "false")
            case .none: name = Text("null")
            case .int(let int): name = Text(String(int))
            case .float(let float): name = Text(jsonFloat(float))
            default: throw failure("a key of type '\(key.value.typeName)' is not JSON serializable")
            }
            result.append((name, entries[key] ?? .none))
        }
        return result
    }

    private func writeJSON(_ string: Text, _ style: JSONStyle, into text: inout [Unicode.Scalar]) {
        text.append("\"")
        for scalar in string.scalars {
            switch scalar {
            case "\"", "\\": text.append(contentsOf: ["\\", scalar])
            case "\n": text.append("\\n")
            case "\r": text.append("\\r")
            case "\t": text.append("\\t")
            case "\u{8}": text.append("\\b")
            case "\u{C}": text.append("\\f")
            default:
                if scalar.value < 0x20 || (style.escapesNonASCII && scalar.value > 0x7E) {
                    for unit in String(scalar).utf16 {
                        let digits = String(unit, radix: 16)
                        text.append("\\u" + String(repeating: "0", count: 4 - digits.count) + digits)
                    }
                } else {
                    text.append(scalar)
                }
            }
        }
        text.append("\"")
    }
}
