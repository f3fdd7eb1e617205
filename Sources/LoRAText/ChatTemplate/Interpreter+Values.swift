import LoRAFormats
import OrderedCollections

/// What a template is given.
typealias Input = JSONValue

extension Interpreter {
    // MARK: Making values

    func makeList(_ elements: [Value], isGroup: Bool = false) throws(TemplateError) -> ListValue {
        try charge(elements.count)
        let list = ListValue(elements, isGroup: isGroup)
        try check(depth: list.depth)
        return list
    }

    func makeDict(_ entries: OrderedDictionary<Key, Value>) throws(TemplateError) -> DictValue {
        try charge(entries.count)
        let dict = DictValue(entries)
        try check(depth: dict.depth)
        return dict
    }

    func makeDict(_ keywords: [(name: String, value: Value)]) throws(TemplateError) -> DictValue {
        var entries: OrderedDictionary<Key, Value> = [:]
        for (name, value) in keywords { entries[Key(Text(name))] = value }
        return try makeDict(entries)
    }

    func makeKey(_ value: Value) throws(TemplateError) -> Key {
        guard let key = Key(value) else { throw failure("a value of type '\(value.typeName)' cannot be a key") }
        return key
    }

    private func check(depth: Int) throws(TemplateError) {
        guard depth <= TemplateLimit.valueDepth else {
            throw failure("values are nested more than \(TemplateLimit.valueDepth) levels deep")
        }
    }

    func convert(_ json: JSONValue, depth: Int = 0) throws(TemplateError) -> Value {
        try check(depth: depth)
        switch json {
        case .null: return .none
        case .bool(let bool): return .bool(bool)
        case .integer(let integer): return .int(Int(integer))
        case .number(let number): return .float(number)
        case .string(let string): return .text(string)
        case .array(let array):
            var elements: [Value] = []
            elements.reserveCapacity(array.count)
            for element in array { elements.append(try convert(element, depth: depth + 1)) }
            return .list(ListValue(elements))
        case .object(let object):
            var entries: OrderedDictionary<Key, Value> = [:]
            entries.reserveCapacity(object.count)
            for (name, element) in object { entries[Key(Text(name))] = try convert(element, depth: depth + 1) }
            return .dict(DictValue(entries))
        }
    }

    // MARK: Truth, length, elements

    func isTrue(_ value: Value) throws(TemplateError) -> Bool {
        switch value {
        case .undefined, .none: false
        case .bool(let bool): bool
        case .int(let int): int != 0
        case .float(let float): float != 0
        case .string(let text): !text.isEmpty
        case .list(let list), .tuple(let list): !list.elements.isEmpty
        case .dict(let dict): !dict.entries.isEmpty
        case .view(let view): !view.dict.entries.isEmpty
        case .range(let range): range.count > 0
        case .loop(let loop): try loop.count() > 0
        case .generator, .namespace, .callable: true
        }
    }

    /// `len(value)`, or nothing for what has no length.
    func knownCount(of value: Value) throws(TemplateError) -> Int? {
        switch value {
        case .undefined: 0
        case .string(let text): text.count
        case .list(let list), .tuple(let list): list.elements.count
        case .dict(let dict): dict.entries.count
        case .view(let view): view.dict.entries.count
        case .range(let range): range.count
        case .loop(let loop): try loop.count()
        default: nil
        }
    }

    func isIterable(_ value: Value) -> Bool {
        switch value {
        case .undefined, .string, .list, .tuple, .dict, .view, .range, .generator, .loop: true
        default: false
        }
    }

    func iterator(over value: Value) throws(TemplateError) -> Generator {
        switch value {
        case .generator(let generator): return generator
        case .loop(let loop):
            return try own(
                Generator { [unowned self] () throws(TemplateError) -> Value? in
                    guard let next = try loop.advance() else { return nil }
                    return .tuple(try self.makeList([next, .loop(loop)]))
                })
        case .range(let range): return try indexed(count: range.count) { .int(range[$0]) }
        case .string(let text): return try indexed(count: text.count) { .string(Text([text.scalars[$0]])) }
        default:
            let elements = try self.elements(of: value)
            return try indexed(count: elements.count) { elements[$0] }
        }
    }

    private func indexed(count: Int, _ element: @escaping (Int) -> Value) throws(TemplateError) -> Generator {
        var position = 0
        return try own(
            Generator { () throws(TemplateError) -> Value? in
                guard position < count else { return nil }
                position += 1
                return element(position - 1)
            })
    }

    /// All elements, as `list(value)` gives them.
    func elements(of value: Value) throws(TemplateError) -> [Value] {
        switch value {
        case .undefined: return []
        case .list(let list), .tuple(let list): return list.elements
        case .dict(let dict):
            try charge(dict.entries.count)
            return dict.entries.keys.map(\.value)
        case .view(let view):
            try charge(view.dict.entries.count)
            return view.elements
        case .string, .range, .generator, .loop:
            let source = try iterator(over: value)
            var elements: [Value] = []
            while let element = try source.next() {
                try step()
                try charge(2)
                elements.append(element)
            }
            return elements
        default: throw failure("a value of type '\(value.typeName)' cannot be iterated over")
        }
    }

    // MARK: Text

    /// `str(value)`
    func string(_ value: Value) throws(TemplateError) -> Text {
        switch value {
        case .string(let text): return text
        case .undefined: return Text("")
        case .int(let int): return Text(String(int))
        default: return try representation(of: value)
        }
    }

    /// `repr(value)`
    func representation(of value: Value) throws(TemplateError) -> Text {
        var text: [Unicode.Scalar] = []
        try represent(value, into: &text)
        return Text(text)
    }

    private func represent(_ value: Value, into text: inout [Unicode.Scalar]) throws(TemplateError) {
        try step()
        let start = text.count
        switch value {
        case .undefined: text.append("Undefined")
        case .none: text.append("None")
        case .bool(let bool): text.append(bool ? "True" : "False")
        case .int(let int): text.append(String(int))
        case .float(let float): text.append(Number.description(of: float))
        case .string(let string):
            if string.isMarkup { throw failure("the representation of HTML-safe text is not supported") }
            text.append(contentsOf: string.representation)
        case .list(let list): try represent(list.elements, "[", "]", into: &text)
        case .tuple(let tuple): try represent(tuple.elements, "(", tuple.elements.count == 1 ? ",)" : ")", into: &text)
        case .dict(let dict): try represent(dict.entries, into: &text)
        case .view(let view): try represent(view.elements, "dict_\(view.part.rawValue)([", "])", into: &text)
        case .range(let range):
            text.append("range(\(range.start), \(range.stop)\(range.step == 1 ? "" : ", \(range.step)"))")
        case .namespace(let namespace):
            text.append("<Namespace ")
            try represent(namespace.attributes, into: &text)
            text.append(">")
        case .callable(let callable):
            guard case .macro(let macro) = callable.kind else {
                throw failure("a value of type 'function' cannot be printed")
            }
            let name = macro.definition.name.map { Text($0).representation } ?? Array("anonymous".unicodeScalars)
            text.append(contentsOf: "<Macro ".unicodeScalars + name + [">"])
        case .generator, .loop:
            throw failure("a value of type '\(value.typeName)' cannot be printed")
        }
        try charge(text.count - start)
    }

    private func represent(
        _ elements: [Value], _ open: String, _ close: String, into text: inout [Unicode.Scalar]
    ) throws(TemplateError) {
        text.append(open)
        for (index, element) in elements.enumerated() {
            if index > 0 { text.append(", ") }
            try nested { () throws(TemplateError) in try represent(element, into: &text) }
        }
        text.append(close)
    }

    private func represent(
        _ entries: OrderedDictionary<Key, Value>, into text: inout [Unicode.Scalar]
    ) throws(TemplateError) {
        text.append("{")
        for (index, entry) in entries.enumerated() {
            if index > 0 { text.append(", ") }
            try represent(entry.key.value, into: &text)
            text.append(": ")
            try nested { () throws(TemplateError) in try represent(entry.value, into: &text) }
        }
        text.append("}")
    }
}

extension [Unicode.Scalar] {
    mutating func append(_ string: String) { append(contentsOf: string.unicodeScalars) }
}

extension Text {
    /// `\x0a`, `\u2028` or `\U0001f600`
    static func hexEscape(_ scalar: Unicode.Scalar) -> String {
        let digits = String(scalar.value, radix: 16)
        let (prefix, width) = scalar.value < 0x100 ? ("\\x", 2) : scalar.value < 0x10000 ? ("\\u", 4) : ("\\U", 8)
        return prefix + String(repeating: "0", count: width - digits.count) + digits
    }

    /// `repr` of the text: in single quotes unless it holds only those.
    var representation: [Unicode.Scalar] {
        let quote: Unicode.Scalar = scalars.contains("'") && !scalars.contains("\"") ? "\"" : "'"
        var text: [Unicode.Scalar] = [quote]
        text.reserveCapacity(scalars.count + 2)
        for scalar in scalars {
            switch scalar {
            case quote, "\\": text.append(contentsOf: ["\\", scalar])
            case "\n": text.append("\\n")
            case "\r": text.append("\\r")
            case "\t": text.append("\\t")
            default:
                if scalar.isPythonPrintable { text.append(scalar) } else { text.append(Text.hexEscape(scalar)) }
            }
        }
        text.append(quote)
        return text
    }
}
