extension Interpreter {
    static let tests: Set<String> = [
        "!=", "<", "<=", "==", ">", ">=", "boolean", "callable", "defined", "divisibleby", "eq", "equalto", "escaped",
        "even", "false", "filter", "float", "ge", "greaterthan", "gt", "in", "integer", "iterable", "le", "lessthan",
        "lower", "lt", "mapping", "ne", "none", "number", "odd", "sameas", "sequence", "string", "test", "true",
        "undefined", "upper",
    ]

    func applyTest(_ name: String, to value: Value, _ arguments: ArgumentValues) throws(TemplateError) -> Bool {
        guard Interpreter.tests.contains(name) else { throw failure("there is no test '\(name)'") }
        if let `operator` = comparison(for: name) {
            return try compare(value, `operator`, try argument(of: name, arguments))
        }
        switch name {
        case "divisibleby":
            return try areEqual(try apply(.modulo, value, try argument(of: name, arguments)), .int(0))
        case "in": return try contains(try argument(of: name, arguments), value)
        case "sameas": return try isSame(value, try argument(of: name, arguments))
        default: break
        }
        _ = try arguments.bind([], for: name, at: line)
        switch name {
        case "odd": return try areEqual(try apply(.modulo, value, .int(2)), .int(1))
        case "even": return try areEqual(try apply(.modulo, value, .int(2)), .int(0))
        case "lower": return try string(value).isLowercase
        case "upper": return try string(value).isUppercase
        case "filter": return Interpreter.filters.union(Interpreter.unsupportedFilters).contains(try nameTested(value))
        case "test": return Interpreter.tests.contains(try nameTested(value))
        default: return hasType(name, value)
        }
    }

    private func nameTested(_ value: Value) throws(TemplateError) -> String {
        if case .string(let text) = value { text.string } else { "" }
    }

    private func comparison(for name: String) -> ComparisonOperator? {
        switch name {
        case "==", "eq", "equalto": .equal
        case "!=", "ne": .notEqual
        case ">", "gt", "greaterthan": .greater
        case ">=", "ge": .greaterOrEqual
        case "<", "lt", "lessthan": .less
        case "<=", "le": .lessOrEqual
        default: nil
        }
    }

    private func argument(of test: String, _ arguments: ArgumentValues) throws(TemplateError) -> Value {
        guard arguments.keywords.isEmpty, arguments.positional.count == 1 else {
            throw failure("the test '\(test)' takes one argument")
        }
        return arguments.positional[0]
    }

    private func hasType(_ name: String, _ value: Value) -> Bool {
        switch (name, value) {
        case ("defined", _): !value.isUndefined
        case ("undefined", .undefined), ("none", .none), ("boolean", .bool), ("true", .bool(true)): true
        case ("false", .bool(false)), ("integer", .int), ("float", .float), ("string", .string): true
        case ("mapping", .dict): true
        case ("number", .int), ("number", .float), ("number", .bool): true
        case ("callable", .callable(let callable)):
            if case .cycler = callable.kind { false } else { true }
        case ("callable", .undefined), ("callable", .loop): true
        case ("sequence", .undefined), ("sequence", .string), ("sequence", .list), ("sequence", .tuple): true
        case ("sequence", .dict), ("sequence", .range): true
        case ("iterable", _): isIterable(value)
        case ("escaped", .string(let text)): text.isMarkup
        default: false
        }
    }

    /// Identity, where Python defines it; of equal numbers and texts it is an accident of the implementation.
    private func isSame(_ left: Value, _ right: Value) throws(TemplateError) -> Bool {
        switch (left, right) {
        case (.none, .none): return true
        case (.bool(let left), .bool(let right)): return left == right
        case (.list(let left), .list(let right)) where left === right: return true
        case (.dict(let left), .dict(let right)) where left === right: return true
        case (.namespace(let left), .namespace(let right)): return left === right
        default:
            guard left.typeName != right.typeName else {
                throw failure("'sameas' is not supported between values of type '\(left.typeName)'")
            }
            return false
        }
    }
}
