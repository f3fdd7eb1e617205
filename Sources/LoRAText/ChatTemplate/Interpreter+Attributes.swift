import OrderedCollections

/// Names of the attributes that Python's types have, as far as a template may meet them.
private enum AttributeNames {
    static let string: Set<String> = [
        "capitalize", "center", "count", "endswith", "find", "format", "index", "isalnum", "isalpha", "isdecimal",
        "isdigit", "islower", "isnumeric", "isspace", "isupper", "join", "ljust", "lower", "lstrip", "partition",
        "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit", "rstrip",
        "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper", "zfill",
    ]
    static let list: Set<String> = ["copy", "count", "index"]
    static let tuple: Set<String> = ["count", "index"]
    static let dict: Set<String> = ["copy", "get", "items", "keys", "values"]
    /// What Jinja's immutable sandbox does not let a template reach.
    static let changingList: Set<String> = [
        "append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort",
    ]
    static let changingDict: Set<String> = ["clear", "pop", "popitem", "setdefault", "update"]
    /// Attributes that exist in Python and are not made here.
    static let unsupported: [String: Set<String>] = [
        "str": [
            "casefold", "encode", "expandtabs", "format_map", "isascii", "isidentifier", "isprintable", "istitle",
            "maketrans", "translate",
        ],
        "Markup": ["striptags", "unescape", "escape"],
        "dict": ["fromkeys"],
        "int": [
            "as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator", "from_bytes", "imag",
            "numerator", "real", "to_bytes",
        ],
        "float": ["as_integer_ratio", "conjugate", "fromhex", "hex", "imag", "is_integer", "real"],
        "range": ["count", "index", "start", "step", "stop"],
        "generator": ["close", "send", "throw", "gi_running", "gi_suspended", "gi_yieldfrom"],
        "dict_keys": ["isdisjoint", "mapping"], "dict_items": ["isdisjoint", "mapping"],
        "dict_values": ["mapping"],
        "function": [
            "arguments", "caller", "catch_kwargs", "catch_varargs", "explicit_caller", "fromkeys", "name", "sep",
            "used",
        ],
    ]
}

extension Interpreter {
    /// `value.name`: an attribute, or an element of that key.
    func attribute(_ member: Member, of value: Value) throws(TemplateError) -> Value {
        if case .dict(let dict) = value, let element = dict[member.text] {
            return try ownAttribute(member.name, of: value) ?? element
        }
        return try ownAttribute(member.name, of: value) ?? missing(member.name, of: value)
    }

    /// `value[index]`: an element, or an attribute of that name.
    func item(_ index: Value, of value: Value) throws(TemplateError) -> Value {
        try refuseUndefined(value)
        switch value {
        case .dict(let dict):
            if let key = Key(index), let element = dict.entries[key] { return element }
        case .list(let list), .tuple(let list):
            if let position = position(index, in: list.elements.count) { return list.elements[position] }
        case .string(let text):
            if let position = position(index, in: text.count) {
                return .string(Text([text.scalars[position]], isMarkup: text.isMarkup))
            }
        case .range(let range):
            if let position = position(index, in: range.count) { return .int(range[position]) }
        default: break
        }
        if case .string(let name) = index {
            return try ownAttribute(name.string, of: value) ?? missing(name.string, of: value)
        }
        if case .undefined = index { return .undefined(Undefined("'\(typeDescription(value))' has no such element")) }
        let shown = (try? representation(of: index).string) ?? index.typeName
        return .undefined(Undefined("\(typeDescription(value)) has no element \(shown)"))
    }

    private func position(_ index: Value, in count: Int) -> Int? {
        let position: Int
        switch index {
        case .int(let int): position = int
        case .bool(let bool): position = bool ? 1 : 0
        default: return nil
        }
        if position >= 0 { return position < count ? position : nil }
        return position >= -count ? position + count : nil
    }

    private func typeDescription(_ value: Value) -> String {
        if case .none = value { return "None" }
        return "\(value.typeName) object"
    }

    private func missing(_ name: String, of value: Value) -> Value {
        .undefined(Undefined("'\(typeDescription(value))' has no attribute '\(name)'"))
    }

    /// What Python's `getattr` finds; nothing when it raises `AttributeError`.
    private func ownAttribute(_ name: String, of value: Value) throws(TemplateError) -> Value? {
        try refuseUndefined(value)
        if case .namespace(let namespace) = value { return namespace.attributes[Key(Text(name))] }
        if name.hasPrefix("__") && name.hasSuffix("__") {
            if case .dict(let dict) = value, dict[Text(name)] != nil {
                throw failure("the key '\(name)' looks like an internal attribute, which is not supported")
            }
            return unsafe(name, value)
        }
        switch value {
        case .string:
            if AttributeNames.string.contains(name) { return method(name, value) }
        case .list:
            if AttributeNames.list.contains(name) { return method(name, value) }
            if AttributeNames.changingList.contains(name) { return unsafe(name, value) }
        case .tuple(let tuple):
            if AttributeNames.tuple.contains(name) { return method(name, value) }
            if tuple.isGroup, tuple.elements.count == 2, name == "grouper" || name == "list" {
                return tuple.elements[name == "list" ? 1 : 0]
            }
        case .dict:
            if AttributeNames.dict.contains(name) { return method(name, value) }
            if AttributeNames.changingDict.contains(name) { return unsafe(name, value) }
        case .loop(let loop): return try attribute(name, ofLoop: loop)
        case .callable(let callable):
            if case .cycler(let cycler) = callable.kind { return attribute(name, of: cycler, value) }
        default: break
        }
        var typeName = value.typeName
        if typeName == "bool" { typeName = "int" }
        if AttributeNames.unsupported[typeName]?.contains(name) == true
            || (typeName == "Markup" && AttributeNames.unsupported["str"]?.contains(name) == true)
        {
            throw failure("the attribute '\(name)' of type '\(value.typeName)' is not supported")
        }
        return nil
    }

    private func method(_ name: String, _ receiver: Value) -> Value { .callable(Callable(.method(receiver, name))) }

    private func unsafe(_ name: String, _ value: Value) -> Value {
        .undefined(Undefined("access to attribute '\(name)' of '\(value.typeName)' object is unsafe"))
    }

    private func attribute(_ name: String, of cycler: Cycler, _ value: Value) -> Value? {
        switch name {
        case "next", "reset": method(name, value)
        case "current": cycler.items[cycler.position]
        case "pos": .int(cycler.position)
        default: nil
        }
    }

    private func attribute(_ name: String, ofLoop loop: LoopState) throws(TemplateError) -> Value? {
        switch name {
        case "index": return .int(loop.index0 + 1)
        case "index0": return .int(loop.index0)
        case "revindex": return .int(try loop.count() - loop.index0)
        case "revindex0": return .int(try loop.count() - loop.index0 - 1)
        case "length": return .int(try loop.count())
        case "first": return .bool(loop.index0 == 0)
        case "last": return .bool(try loop.peek() == nil)
        case "depth": return .int(1)
        case "depth0": return .int(0)
        case "previtem":
            return loop.index0 == 0
                ? .undefined(Undefined("there is no previous item")) : loop.previous ?? Value.none
        case "nextitem": return try loop.peek() ?? .undefined(Undefined("there is no next item"))
        case "cycle", "changed": return method(name, .loop(loop))
        default: return nil
        }
    }

    // MARK: Slices

    /// `value[start:stop:step]`
    func slice(_ bounds: [Value], of value: Value) throws(TemplateError) -> Value {
        try refuseUndefined(value)
        var whole: [Int?] = []
        for bound in bounds {
            switch (bound, Number(bound)) {
            case (.none, _): whole.append(nil)
            case (_, .int(let int)): whole.append(int)
            default: throw failure("slice bounds must be integers, not of type '\(bound.typeName)'")
            }
        }
        switch value {
        case .string(let text):
            let picked = try indices(whole, count: text.count)
            try charge(picked.count)
            return .string(Text(picked.map { text.scalars[$0] }, isMarkup: text.isMarkup))
        case .list(let list):
            return .list(try makeList(try indices(whole, count: list.elements.count).map { list.elements[$0] }))
        case .tuple(let list):
            return .tuple(try makeList(try indices(whole, count: list.elements.count).map { list.elements[$0] }))
        case .range: throw failure("slices of ranges are not supported, make it a list first")
        default: throw failure("a value of type '\(value.typeName)' cannot be sliced")
        }
    }

    /// Positions that a slice picks from `count` elements.
    private func indices(_ bounds: [Int?], count: Int) throws(TemplateError) -> StrideTo<Int> {
        let step = bounds[2] ?? 1
        guard step != 0 else { throw failure("the step of a slice cannot be zero") }
        func clamped(_ bound: Int?, _ fallback: Int) -> Int {
            guard var bound else { return fallback }
            if bound < 0 { bound = bound < -count ? -1 : bound + count }
            if step > 0 { return min(max(bound, 0), count) }
            return min(max(bound, -1), count - 1)
        }
        let start = clamped(bounds[0], step > 0 ? 0 : count - 1)
        let stop = clamped(bounds[1], step > 0 ? count : -1)
        return stride(from: start, to: stop, by: max(-count - 1, min(step, count + 1)))
    }
}

extension StrideTo<Int> {
    /// Number of positions, for a stride that `Interpreter.indices` made.
    var count: Int { underestimatedCount }
}
