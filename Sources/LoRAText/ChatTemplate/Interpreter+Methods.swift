import OrderedCollections

extension Interpreter {
    func callMethod(
        _ name: String, of receiver: Value, _ arguments: ArgumentValues
    ) throws(TemplateError) -> Value {
        switch receiver {
        case .string(let text):
            guard !text.isMarkup else { throw failure("methods of HTML-safe text are not supported") }
            return try callMethod(name, of: text, arguments)
        case .list(let list), .tuple(let list): return try callMethod(name, of: list, receiver, arguments)
        case .dict(let dict): return try callMethod(name, of: dict, arguments)
        case .loop(let loop):
            guard arguments.keywords.isEmpty else { throw failure("'loop.\(name)' takes no named arguments") }
            let values = arguments.positional
            if name == "changed" {
                return .bool(
                    try loop.changes(to: values) { (left, right) throws(TemplateError) in
                        try self.areEqual(left, right)
                    })
            }
            guard !values.isEmpty else { throw failure("'loop.cycle' needs a value") }
            return values[loop.index0 % values.count]
        case .callable(let callable):
            guard case .cycler(let cycler) = callable.kind else { break }
            _ = try arguments.bind([], for: name, at: line)
            let current = cycler.items[cycler.position]
            cycler.position = name == "reset" ? 0 : (cycler.position + 1) % cycler.items.count
            return name == "reset" ? .none : current
        default: break
        }
        throw failure("a value of type '\(receiver.typeName)' has no method '\(name)'")
    }

    private func callMethod(
        _ name: String, of list: ListValue, _ receiver: Value, _ arguments: ArgumentValues
    ) throws(TemplateError) -> Value {
        if name == "copy" {
            _ = try arguments.bind([], for: name, at: line)
            return receiver
        }
        let values = try arguments.bind(["value"], for: name, at: line)
        guard let value = values[0] else { throw failure("'\(name)' needs a value") }
        var count = 0
        for (index, element) in list.elements.enumerated() where try areEqual(element, value) {
            if name == "index" { return .int(index) }
            count += 1
        }
        if name == "index" { throw failure("the value is not in the \(receiver.typeName)") }
        return .int(count)
    }

    private func callMethod(
        _ name: String, of dict: DictValue, _ arguments: ArgumentValues
    ) throws(TemplateError) -> Value {
        if name == "get" {
            guard arguments.keywords.isEmpty else { throw failure("'get' takes no named arguments") }
            let values = try arguments.bind(["key", "default"], for: name, at: line)
            guard let key = values[0] else { throw failure("'get' needs a key") }
            if case .undefined = key { return values[1] ?? .none }
            return dict.entries[try makeKey(key)] ?? values[1] ?? .none
        }
        _ = try arguments.bind([], for: name, at: line)
        switch name {
        case "copy": return .dict(dict)
        case "keys": return .view(DictView(dict, .keys))
        case "values": return .view(DictView(dict, .values))
        default: return .view(DictView(dict, .items))
        }
    }

    // MARK: Arguments

    func flag(_ value: Value?) throws(TemplateError) -> Bool {
        guard let value else { return false }
        return try isTrue(value)
    }

    func text(_ value: Value?, _ name: String, of function: String) throws(TemplateError) -> Text {
        guard let value else { throw failure("'\(function)' needs the argument '\(name)'") }
        try refuseUndefined(value)
        guard case .string(let text) = value else {
            throw failure("'\(name)' of '\(function)' must be a string, not a value of type '\(value.typeName)'")
        }
        return text
    }

    /// Nothing for what is not given or `None`.
    func optionalText(_ value: Value?, _ name: String, of function: String) throws(TemplateError) -> Text? {
        guard let value else { return nil }
        if case .none = value { return nil }
        return try text(value, name, of: function)
    }

    func integer(_ value: Value?, _ fallback: Int?, _ name: String, of function: String) throws(TemplateError) -> Int {
        guard let value else {
            guard let fallback else { throw failure("'\(function)' needs the argument '\(name)'") }
            return fallback
        }
        try refuseUndefined(value)
        guard case .int(let int)? = Number(value) else {
            throw failure("'\(name)' of '\(function)' must be an integer, not a value of type '\(value.typeName)'")
        }
        return int
    }
}
