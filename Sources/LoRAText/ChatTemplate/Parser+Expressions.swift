extension Parser {
    private func node(_ kind: Expression.Kind, line: Int, over heights: Int...) throws(TemplateError) -> Expression {
        try node(kind, line: line, over: heights)
    }

    /// Chains of operators grow the tree without nesting in the source, so its height is bounded as well.
    private func node(_ kind: Expression.Kind, line: Int, over heights: [Int]) throws(TemplateError) -> Expression {
        let height = (heights.max() ?? 0) + 1
        guard height <= 2 * TemplateLimit.syntaxDepth else {
            throw error("an expression has more than \(2 * TemplateLimit.syntaxDepth) levels of operators", line: line)
        }
        return Expression(line: line, height: height, kind: kind)
    }

    /// One expression, or several with commas between them: a tuple.
    mutating func tupleExpression(
        allowsConditional: Bool = true, isParenthesized: Bool = false
    ) throws(TemplateError) -> Expression {
        let line = current.line
        var items: [Expression] = []
        var isTuple = false
        while !(current.isEndOfTag || isNext(symbol: ")")) {
            items.append(try expression(allowsConditional: allowsConditional))
            guard skip(symbol: ",") else { break }
            isTuple = true
        }
        if let only = items.first, !isTuple { return only }
        if items.isEmpty && !isParenthesized { throw unexpected("an expression") }
        return try node(.tuple(items), line: line, over: items.map(\.height))
    }

    mutating func expression(allowsConditional: Bool = true) throws(TemplateError) -> Expression {
        try nested { parser throws(TemplateError) in
            allowsConditional ? try parser.conditional() : try parser.disjunction()
        }
    }

    private mutating func conditional() throws(TemplateError) -> Expression {
        var value = try disjunction()
        while skip(name: "if") {
            let test = try disjunction()
            let otherwise =
                skip(name: "else")
                ? try nested { parser throws(TemplateError) in try parser.conditional() } : nil
            value = try node(
                .conditional(test: test, then: value, otherwise: otherwise), line: value.line,
                over: test.height, value.height, otherwise?.height ?? 0)
        }
        return value
    }

    private mutating func disjunction() throws(TemplateError) -> Expression {
        var left = try conjunction()
        while skip(name: "or") {
            let right = try conjunction()
            left = try node(.disjunction(left, right), line: left.line, over: left.height, right.height)
        }
        return left
    }

    private mutating func conjunction() throws(TemplateError) -> Expression {
        var left = try negation()
        while skip(name: "and") {
            let right = try negation()
            left = try node(.conjunction(left, right), line: left.line, over: left.height, right.height)
        }
        return left
    }

    private mutating func negation() throws(TemplateError) -> Expression {
        let line = current.line
        guard skip(name: "not") else { return try comparison() }
        let operand = try nested { parser throws(TemplateError) in try parser.negation() }
        return try node(.unary(.not, operand), line: line, over: operand.height)
    }

    private mutating func comparisonOperator() -> ComparisonOperator? {
        if case .symbol(let symbol) = current.kind, let found = ComparisonOperator(rawValue: symbol) {
            advance()
            return found
        }
        if skip(name: "in") { return .contained }
        if isNext(name: "not"), following.kind == .name("in") {
            advance()
            advance()
            return .notContained
        }
        return nil
    }

    private mutating func comparison() throws(TemplateError) -> Expression {
        let first = try sum()
        var operands: [(relation: ComparisonOperator, operand: Expression)] = []
        while let relation = comparisonOperator() { operands.append((relation, try sum())) }
        if operands.isEmpty { return first }
        let heights = operands.map(\.operand.height) + [first.height]
        return try node(.comparison(first, operands), line: first.line, over: heights)
    }

    private mutating func binaryOperator(among accepted: [BinaryOperator]) -> BinaryOperator? {
        guard case .symbol(let symbol) = current.kind, let found = BinaryOperator(rawValue: symbol),
            accepted.contains(found)
        else { return nil }
        advance()
        return found
    }

    private mutating func sum() throws(TemplateError) -> Expression {
        var left = try concatenation()
        while let `operator` = binaryOperator(among: [.add, .subtract]) {
            let right = try concatenation()
            left = try node(.binary(`operator`, left, right), line: left.line, over: left.height, right.height)
        }
        return left
    }

    private mutating func concatenation() throws(TemplateError) -> Expression {
        var items = [try product()]
        while skip(symbol: "~") { items.append(try product()) }
        if items.count == 1 { return items[0] }
        return try node(.concatenation(items), line: items[0].line, over: items.map(\.height))
    }

    private mutating func product() throws(TemplateError) -> Expression {
        var left = try power()
        while let `operator` = binaryOperator(among: [.multiply, .divide, .floorDivide, .modulo]) {
            let right = try power()
            left = try node(.binary(`operator`, left, right), line: left.line, over: left.height, right.height)
        }
        return left
    }

    private mutating func power() throws(TemplateError) -> Expression {
        var left = try unary()
        while binaryOperator(among: [.power]) != nil {
            let right = try unary()
            left = try node(.binary(.power, left, right), line: left.line, over: left.height, right.height)
        }
        return left
    }

    private mutating func unary(withFilters: Bool = true) throws(TemplateError) -> Expression {
        let line = current.line
        var value: Expression
        if isNext(symbol: "-") || isNext(symbol: "+") {
            let minus = isNext(symbol: "-")
            advance()
            let operand = try nested { parser throws(TemplateError) in try parser.unary(withFilters: false) }
            value = try node(.unary(minus ? .minus : .plus, operand), line: line, over: operand.height)
        } else {
            value = try primary()
        }
        value = try postfix(of: value)
        return withFilters ? try filtersAndTests(of: value) : value
    }

    private mutating func primary() throws(TemplateError) -> Expression {
        let line = current.line
        switch current.kind {
        case .name(let name):
            advance()
            return try node(named(name), line: line)
        case .string(var text):
            advance()
            while case .string(let more) = current.kind {
                text.scalars.append(contentsOf: more.scalars)
                advance()
            }
            return try node(.constant(.string(text)), line: line)
        case .integer(let value):
            advance()
            return try node(.constant(.int(value)), line: line)
        case .float(let value):
            advance()
            return try node(.constant(.float(value)), line: line)
        case .symbol("("):
            advance()
            let value = try tupleExpression(isParenthesized: true)
            try expect(symbol: ")")
            return value
        case .symbol("["):
            advance()
            let items = try expressions(until: "]")
            return try node(.list(items), line: line, over: items.map(\.height))
        case .symbol("{"):
            advance()
            return try dictionary(line: line)
        default: throw unexpected("an expression")
        }
    }

    private mutating func named(_ name: String) -> Expression.Kind {
        switch name {
        case "true", "True": return .constant(.bool(true))
        case "false", "False": return .constant(.bool(false))
        case "none", "None": return .constant(.none)
        default:
            if !reads.isEmpty { reads[reads.count - 1].insert(name) }
            return .name(name)
        }
    }

    private mutating func expressions(until end: String) throws(TemplateError) -> [Expression] {
        var items: [Expression] = []
        while !isNext(symbol: end) {
            if !items.isEmpty { try expect(symbol: ",") }
            if isNext(symbol: end) { break }
            items.append(try expression())
        }
        try expect(symbol: end)
        return items
    }

    private mutating func dictionary(line: Int) throws(TemplateError) -> Expression {
        var items: [(key: Expression, value: Expression)] = []
        var heights: [Int] = []
        while !isNext(symbol: "}") {
            if !items.isEmpty { try expect(symbol: ",") }
            if isNext(symbol: "}") { break }
            let key = try expression()
            try expect(symbol: ":")
            let value = try expression()
            items.append((key, value))
            heights.append(max(key.height, value.height))
        }
        try expect(symbol: "}")
        return try node(.dict(items), line: line, over: heights)
    }

    private mutating func postfix(of value: Expression) throws(TemplateError) -> Expression {
        var value = value
        while true {
            let line = current.line
            if skip(symbol: ".") {
                value = try member(of: value, line: line)
            } else if skip(symbol: "[") {
                let index = try subscriptIndex(line: line)
                value = try node(.item(value, index), line: line, over: value.height, index.height)
            } else if isNext(symbol: "(") {
                value = try call(of: value)
            } else {
                return value
            }
        }
    }

    private mutating func call(of value: Expression) throws(TemplateError) -> Expression {
        let line = current.line
        let arguments = try callArguments()
        return try node(.call(value, arguments), line: line, over: value.height, arguments.height)
    }

    private mutating func member(of value: Expression, line: Int) throws(TemplateError) -> Expression {
        if case .integer(let index) = current.kind {
            advance()
            let index = try node(.constant(.int(index)), line: line)
            return try node(.item(value, index), line: line, over: value.height)
        }
        return try node(.attribute(value, Member(try expectName())), line: line, over: value.height)
    }

    private mutating func subscriptIndex(line: Int) throws(TemplateError) -> Expression {
        var items: [Expression] = []
        while !isNext(symbol: "]") {
            if !items.isEmpty { try expect(symbol: ",") }
            items.append(try sliceOrIndex(line: line))
        }
        try expect(symbol: "]")
        if items.count == 1 { return items[0] }
        for case .slice in items.map(\.kind) { throw error("slices in several dimensions are not supported", line: line) }
        return try node(.tuple(items), line: line, over: items.map(\.height))
    }

    private mutating func sliceOrIndex(line: Int) throws(TemplateError) -> Expression {
        var bounds: [Expression?] = [nil, nil, nil]
        if !isNext(symbol: ":") {
            let first = try expression()
            if !isNext(symbol: ":") { return first }
            bounds[0] = first
        }
        for bound in 1...2 {
            guard skip(symbol: ":") else { break }
            if !isNext(symbol: ":") && !isNext(symbol: "]") && !isNext(symbol: ",") { bounds[bound] = try expression() }
        }
        return try node(.slice(bounds[0], bounds[1], bounds[2]), line: line, over: bounds.map { $0?.height ?? 0 })
    }

    private mutating func filtersAndTests(of value: Expression) throws(TemplateError) -> Expression {
        var value = value
        while true {
            if isNext(symbol: "|") {
                value = try filters(of: value)
            } else if isNext(name: "is") {
                value = try test(of: value)
            } else if isNext(symbol: "(") {
                value = try call(of: value)
            } else {
                return value
            }
        }
    }

    /// Parses one or more filters; without a value the innermost applies to the body of a block.
    mutating func filters(of value: Expression?, startsWithName: Bool = false) throws(TemplateError) -> Expression {
        var value = value
        var startsWithName = startsWithName
        while true {
            if !startsWithName {
                guard skip(symbol: "|") else { break }
            }
            startsWithName = false
            let line = current.line
            let name = try dottedName()
            let arguments = isNext(symbol: "(") ? try callArguments() : Arguments()
            value = try node(.filter(value, name, arguments), line: line, over: value?.height ?? 0, arguments.height)
        }
        guard let value else { throw unexpected("a filter") }
        return value
    }

    private mutating func dottedName() throws(TemplateError) -> String {
        var name = try expectName()
        while skip(symbol: ".") { name += "." + (try expectName()) }
        return name
    }

    private mutating func test(of value: Expression) throws(TemplateError) -> Expression {
        let line = current.line
        advance()
        let negated = skip(name: "not")
        let name = try dottedName()
        var arguments = Arguments()
        if isNext(symbol: "(") {
            arguments = try callArguments()
        } else if startsTestArgument {
            if isNext(name: "is") { throw error("tests cannot be chained with 'is'") }
            let argument = try primary()
            arguments.positional = [try postfix(of: argument)]
        }
        let test = try node(.test(value, name, arguments), line: line, over: value.height, arguments.height)
        return negated ? try node(.unary(.not, test), line: line, over: test.height) : test
    }

    private var startsTestArgument: Bool {
        switch current.kind {
        case .name(let name): !["else", "or", "and"].contains(name)
        case .string, .integer, .float, .symbol("["), .symbol("{"): true
        default: false
        }
    }

    private mutating func callArguments() throws(TemplateError) -> Arguments {
        let line = current.line
        var arguments = Arguments()
        var isFirst = true
        try expect(symbol: "(")
        while !isNext(symbol: ")") {
            if !isFirst {
                try expect(symbol: ",")
                if isNext(symbol: ")") { break }
            }
            isFirst = false
            guard arguments.doubleStar == nil else { throw error("arguments follow '**'", line: line) }
            if skip(symbol: "*") {
                guard arguments.star == nil else { throw error("a call has two '*' arguments", line: line) }
                arguments.star = try expression()
            } else if skip(symbol: "**") {
                arguments.doubleStar = try expression()
            } else if case .name(let name) = current.kind, following.kind == .symbol("=") {
                advance()
                advance()
                if arguments.keywords.contains(where: { $0.name == name }) {
                    throw error("the argument '\(name)' is given twice", line: line)
                }
                arguments.keywords.append((name, try expression()))
            } else {
                guard arguments.star == nil && arguments.keywords.isEmpty else {
                    throw error("a positional argument follows a named one", line: line)
                }
                arguments.positional.append(try expression())
            }
        }
        try expect(symbol: ")")
        return arguments
    }
}
