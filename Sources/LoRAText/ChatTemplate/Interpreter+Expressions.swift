import OrderedCollections

extension Interpreter {
    func evaluate(_ expression: Expression, in scope: Scope) throws(TemplateError) -> Value {
        try step()
        line = expression.line
        switch expression.kind {
        case .constant(let constant): return value(of: constant)
        case .name(let name): return try lookUp(name, in: scope)
        default: return try nested { () throws(TemplateError) in try evaluateCompound(expression, in: scope) }
        }
    }

    private func value(of constant: Constant) -> Value {
        switch constant {
        case .none: .none
        case .bool(let bool): .bool(bool)
        case .int(let int): .int(int)
        case .float(let float): .float(float)
        case .string(let text): .string(text)
        }
    }

    private func evaluateCompound(_ expression: Expression, in scope: Scope) throws(TemplateError) -> Value {
        switch expression.kind {
        case .constant, .name: return try evaluate(expression, in: scope)
        case .list(let items): return .list(try makeList(try evaluate(items, in: scope)))
        case .tuple(let items): return .tuple(try makeList(try evaluate(items, in: scope)))
        case .dict(let items): return try evaluateDict(items, in: scope)
        case .attribute(let object, let member):
            return try attribute(member, of: try evaluate(object, in: scope))
        case .item(let object, let index): return try evaluateItem(object, index, in: scope)
        case .slice: throw failure("a slice stands outside square brackets")
        case .call: return try evaluateCall(expression, caller: nil, in: scope)
        case .filter(let operand, let name, let arguments):
            guard let operand else { throw failure("the filter '\(name)' has nothing to apply to") }
            let value = try evaluate(operand, in: scope)
            let arguments = try evaluate(arguments, in: scope)
            line = expression.line
            return try applyFilter(name, to: value, arguments)
        case .test(let operand, let name, let arguments):
            let value = try evaluate(operand, in: scope)
            let arguments = try evaluate(arguments, in: scope)
            line = expression.line
            return .bool(try applyTest(name, to: value, arguments))
        case .unary(let `operator`, let operand):
            return try apply(`operator`, to: try evaluate(operand, in: scope))
        case .binary(let `operator`, let left, let right):
            let left = try evaluate(left, in: scope)
            return try apply(`operator`, left, try evaluate(right, in: scope))
        case .concatenation(let items): return try concatenate(items, in: scope)
        case .comparison(let first, let operands): return try compare(first, operands, in: scope)
        case .conjunction(let left, let right):
            let left = try evaluate(left, in: scope)
            return try isTrue(left) ? try evaluate(right, in: scope) : left
        case .disjunction(let left, let right):
            let left = try evaluate(left, in: scope)
            return try isTrue(left) ? left : try evaluate(right, in: scope)
        case .conditional(let test, let then, let otherwise):
            if try isTrue(try evaluate(test, in: scope)) { return try evaluate(then, in: scope) }
            if let otherwise { return try evaluate(otherwise, in: scope) }
            return .undefined(
                Undefined("the inline 'if' of line \(expression.line) was false and has no 'else'"))
        }
    }

    private func evaluate(_ items: [Expression], in scope: Scope) throws(TemplateError) -> [Value] {
        var values: [Value] = []
        values.reserveCapacity(items.count)
        for item in items { values.append(try evaluate(item, in: scope)) }
        return values
    }

    private func evaluateDict(
        _ items: [(key: Expression, value: Expression)], in scope: Scope
    ) throws(TemplateError) -> Value {
        var entries: OrderedDictionary<Key, Value> = [:]
        for item in items {
            let key = try makeKey(try evaluate(item.key, in: scope))
            entries[key] = try evaluate(item.value, in: scope)
        }
        return .dict(try makeDict(entries))
    }

    private func concatenate(_ items: [Expression], in scope: Scope) throws(TemplateError) -> Value {
        var text: [Unicode.Scalar] = []
        for item in items {
            let part = try string(try evaluate(item, in: scope))
            try charge(part.count)
            text.append(contentsOf: part.scalars)
        }
        return .string(Text(text))
    }

    private func compare(
        _ first: Expression, _ operands: [(relation: ComparisonOperator, operand: Expression)], in scope: Scope
    ) throws(TemplateError) -> Value {
        var left = try evaluate(first, in: scope)
        for (relation, operand) in operands {
            let right = try evaluate(operand, in: scope)
            guard try compare(left, relation, right) else { return .bool(false) }
            left = right
        }
        return .bool(true)
    }

    private func evaluateItem(
        _ object: Expression, _ index: Expression, in scope: Scope
    ) throws(TemplateError) -> Value {
        let value = try evaluate(object, in: scope)
        guard case .slice(let start, let stop, let step) = index.kind else {
            return try item(try evaluate(index, in: scope), of: value)
        }
        var bounds: [Value] = []
        for bound in [start, stop, step] {
            if let bound { bounds.append(try evaluate(bound, in: scope)) } else { bounds.append(.none) }
        }
        line = index.line
        return try slice(bounds, of: value)
    }

    // MARK: Calls

    /// Evaluates a call; `caller` is the body of the `call` block around it.
    func evaluateCall(_ expression: Expression, caller: Value?, in scope: Scope) throws(TemplateError) -> Value {
        guard case .call(let function, let arguments) = expression.kind else {
            throw failure("'{% call %}' needs the call of a macro")
        }
        let callee = try evaluate(function, in: scope)
        var values = try evaluate(arguments, in: scope)
        if let caller { values.keywords.append(("caller", caller)) }
        line = expression.line
        return try call(callee, values)
    }

    func evaluate(_ arguments: Arguments, in scope: Scope) throws(TemplateError) -> ArgumentValues {
        var values = ArgumentValues()
        values.positional = try evaluate(arguments.positional, in: scope)
        for keyword in arguments.keywords {
            values.keywords.append((keyword.name, try evaluate(keyword.value, in: scope)))
        }
        if let star = arguments.star {
            values.positional.append(contentsOf: try elements(of: try evaluate(star, in: scope)))
        }
        if let doubleStar = arguments.doubleStar {
            guard case .dict(let dict) = try evaluate(doubleStar, in: scope) else {
                throw failure("the argument after '**' is not a mapping")
            }
            for (key, value) in dict.entries {
                guard case .string(let name) = key.value else { throw failure("the names after '**' are not strings") }
                guard !values.keywords.contains(where: { $0.name == name.string }) else {
                    throw failure("the argument '\(name.string)' is given twice")
                }
                values.keywords.append((name.string, value))
            }
        }
        return values
    }

    func call(_ callee: Value, _ arguments: ArgumentValues) throws(TemplateError) -> Value {
        switch callee {
        case .undefined(let undefined): throw failure(undefined.reason)
        case .callable(let callable):
            switch callable.kind {
            case .global(let name): return try callGlobal(name, arguments)
            case .method(let receiver, let name): return try callMethod(name, of: receiver, arguments)
            case .macro(let macro):
                return try nested { () throws(TemplateError) in try call(macro, arguments) }
            case .cycler: throw failure("a cycler is not a function: call its 'next'")
            case .joiner(let joiner):
                _ = try arguments.bind([], for: "joiner", at: line)
                defer { joiner.isUsed = true }
                return .string(joiner.isUsed ? joiner.separator : Text(""))
            }
        case .loop: throw failure("recursive loops are not supported, use a macro that calls itself")
        default: throw failure("a value of type '\(callee.typeName)' cannot be called")
        }
    }

    private func call(_ macro: Macro, _ arguments: ArgumentValues) throws(TemplateError) -> Value {
        guard let outer = macro.scope else { throw failure("a macro was called after its template ended") }
        let definition = macro.definition
        let scope = Scope(parent: outer)
        try bind(arguments, to: definition, in: scope)
        let (text, _) = try capture { () throws(TemplateError) in try execute(definition.body, in: scope) }
        return .string(text)
    }

    private func bind(
        _ arguments: ArgumentValues, to definition: MacroDefinition, in scope: Scope
    ) throws(TemplateError) {
        let name = definition.name ?? "caller"
        var keywords = arguments.keywords
        func take(_ name: String) -> Value? {
            guard let index = keywords.firstIndex(where: { $0.name == name }) else { return nil }
            return keywords.remove(at: index).value
        }
        for (index, parameter) in definition.parameters.enumerated() {
            if index < arguments.positional.count {
                scope.variables[parameter.name] = arguments.positional[index]
            } else if let value = take(parameter.name) {
                scope.variables[parameter.name] = value
            } else if let defaultValue = parameter.defaultValue {
                scope.variables[parameter.name] = try evaluate(defaultValue, in: scope)
            } else {
                scope.variables[parameter.name] = .undefined(
                    Undefined("the parameter '\(parameter.name)' was not provided"))
            }
        }
        let isNamed = { (name: String) in definition.parameters.contains { $0.name == name } }
        if definition.reads.contains("caller") && !isNamed("caller") {
            scope.variables["caller"] = take("caller") ?? .undefined(Undefined("no caller is defined"))
        }
        if definition.reads.contains("kwargs") && !isNamed("kwargs") {
            scope.variables["kwargs"] = .dict(try makeDict(keywords))
        } else if let extra = keywords.first {
            throw failure("the macro '\(name)' takes no argument '\(extra.name)'")
        }
        let surplus = Array(arguments.positional.dropFirst(definition.parameters.count))
        if definition.reads.contains("varargs") && !isNamed("varargs") {
            scope.variables["varargs"] = .tuple(try makeList(surplus))
        } else if !surplus.isEmpty {
            throw failure(
                "the macro '\(name)' takes at most \(definition.parameters.count) arguments, "
                    + "\(arguments.positional.count) are given")
        }
    }

    // MARK: Filters of blocks

    /// Applies the filters of a `{% filter %}` or `{% set %}` block, innermost first, to what its body wrote.
    func applyFilter(_ filter: Expression, toBody text: Text, in scope: Scope) throws(TemplateError) -> Value {
        guard case .filter(let inner, let name, let arguments) = filter.kind else {
            throw failure("a block's filter is not a filter")
        }
        let value: Value
        if let inner { value = try applyFilter(inner, toBody: text, in: scope) } else { value = .string(text) }
        let values = try evaluate(arguments, in: scope)
        line = filter.line
        return try applyFilter(name, to: value, values)
    }
}

/// Evaluated arguments of a call.
struct ArgumentValues {
    var positional: [Value] = []
    var keywords: [(name: String, value: Value)] = []

    /// Arguments in the order of `names`; what is not given is nothing.
    func bind(_ names: [String], for function: String, at line: Int) throws(TemplateError) -> [Value?] {
        guard positional.count <= names.count else {
            throw TemplateError(
                line: line,
                message: "'\(function)' takes at most \(names.count) arguments, \(positional.count) are given")
        }
        var values: [Value?] = positional + Array(repeating: nil, count: names.count - positional.count)
        for (name, value) in keywords {
            guard let index = names.firstIndex(of: name) else {
                throw TemplateError(line: line, message: "'\(function)' takes no argument '\(name)'")
            }
            guard values[index] == nil else {
                throw TemplateError(line: line, message: "the argument '\(name)' of '\(function)' is given twice")
            }
            values[index] = value
        }
        return values
    }
}
