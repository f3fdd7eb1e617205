/// Makes statements of tokens, with Jinja's grammar and the tags of transformers (`break`, `continue`, `generation`).
struct Parser {
    private let tokens: [Token]
    private var position = 0
    private var depth = 0
    /// Whether `break` and `continue` have a loop to leave; a macro body starts anew.
    private var isInLoop = false
    private var hasGeneration = false
    /// One set per macro body that is being parsed.
    var reads: [Set<String>] = []

    private init(_ tokens: [Token]) { self.tokens = tokens }

    /// The statements of a template, and whether `generation` blocks are among them.
    static func parse(_ source: String) throws(TemplateError) -> (statements: [Statement], marksGeneration: Bool) {
        var parser = Parser(try Lexer.tokens(of: source))
        let statements = try parser.body(until: [])
        return (statements, parser.hasGeneration)
    }

    // MARK: Tokens

    /// The last token is always `.end`, and nothing goes past it.
    var current: Token { tokens[min(position, tokens.count - 1)] }
    var following: Token { tokens[min(position + 1, tokens.count - 1)] }

    mutating func advance() { position += 1 }

    func isNext(name: String) -> Bool { current.kind == .name(name) }
    func isNext(symbol: String) -> Bool { current.kind == .symbol(symbol) }

    mutating func skip(name: String) -> Bool {
        guard isNext(name: name) else { return false }
        advance()
        return true
    }

    mutating func skip(symbol: String) -> Bool {
        guard isNext(symbol: symbol) else { return false }
        advance()
        return true
    }

    mutating func expect(symbol: String) throws(TemplateError) {
        guard skip(symbol: symbol) else { throw unexpected("'\(symbol)'") }
    }

    mutating func expectName() throws(TemplateError) -> String {
        guard case .name(let name) = current.kind else { throw unexpected("a name") }
        advance()
        return name
    }

    private mutating func expect(_ kind: Token.Kind, _ description: String) throws(TemplateError) {
        guard current.kind == kind else { throw unexpected(description) }
        advance()
    }

    func error(_ message: String, line: Int? = nil) -> TemplateError {
        TemplateError(line: line ?? current.line, message: message)
    }

    func unexpected(_ expected: String) -> TemplateError {
        let found =
            switch current.kind {
            case .data: "text"
            case .blockBegin: "'{%'"
            case .blockEnd: "'%}'"
            case .variableBegin: "'{{'"
            case .variableEnd: "'}}'"
            case .name(let name), .symbol(let name): "'\(name)'"
            case .string: "a string"
            case .integer, .float: "a number"
            case .end: "the end of the template"
            }
        return error("expected \(expected), found \(found)")
    }

    /// Counts one more level of nesting while `parse` runs.
    mutating func nested<Result>(
        _ parse: (inout Parser) throws(TemplateError) -> Result
    ) throws(TemplateError) -> Result {
        depth += 1
        defer { depth -= 1 }
        guard depth <= TemplateLimit.syntaxDepth else {
            throw error("blocks and expressions are nested more than \(TemplateLimit.syntaxDepth) levels deep")
        }
        return try parse(&self)
    }

    // MARK: Bodies

    /// Parses up to a block that begins with one of `ends`, which is left as the current token.
    private mutating func body(until ends: [String]) throws(TemplateError) -> [Statement] {
        var statements: [Statement] = []
        while true {
            let line = current.line
            switch current.kind {
            case .data(let text):
                advance()
                statements.append(Statement(line: line, kind: .text(text)))
            case .variableBegin:
                advance()
                let value = try tupleExpression()
                try expect(.variableEnd, "'}}'")
                statements.append(Statement(line: line, kind: .output(value)))
            case .blockBegin:
                advance()
                if case .name(let name) = current.kind, ends.contains(name) { return statements }
                let kind = try nested { parser throws(TemplateError) in try parser.statement(ends: ends) }
                try expect(.blockEnd, "'%}'")
                statements.append(Statement(line: line, kind: kind))
            case .end where ends.isEmpty: return statements
            default: throw unexpected(ends.map { "'{% \($0) %}'" }.joined(separator: " or "))
            }
        }
    }

    /// Parses the body of a block whose tag ends here, and its end tag's name.
    private mutating func block(_ ends: String..., inLoop: Bool? = nil) throws(TemplateError) -> [Statement] {
        let outer = isInLoop
        isInLoop = inLoop ?? outer
        defer { isInLoop = outer }
        _ = skip(symbol: ":")
        try expect(.blockEnd, "'%}'")
        return try body(until: ends)
    }

    private mutating func statement(ends: [String]) throws(TemplateError) -> Statement.Kind {
        let name = try expectName()
        switch name {
        case "if": return try branch()
        case "for": return try loop()
        case "set": return try assignment()
        case "macro": return .macro(try macro())
        case "call": return try callBlock()
        case "filter":
            let filter = try filters(of: nil, startsWithName: true)
            let body = try block("endfilter")
            advance()
            return .filter(filter, body: body)
        case "with": return try with()
        case "generation":
            hasGeneration = true
            let body = try block("endgeneration", inLoop: false)
            advance()
            return .generation(body)
        case "break", "continue":
            guard isInLoop else { throw error("'\(name)' stands outside a loop") }
            return name == "break" ? .breakLoop : .continueLoop
        case "print": return .output(try expression())
        case "block", "extends", "include", "import", "from", "autoescape", "do", "trans":
            throw error("the tag '\(name)' is not supported: chat templates have no other templates to draw on")
        default:
            let expected = ends.isEmpty ? "" : ", expected '{% \(ends.joined(separator: " %}' or '{% ")) %}'"
            throw error("unknown tag '\(name)'\(expected)")
        }
    }

    // MARK: Statements

    private mutating func branch() throws(TemplateError) -> Statement.Kind {
        var branches: [(test: Expression, body: [Statement])] = []
        while true {
            let test = try tupleExpression(allowsConditional: false)
            branches.append((test, try block("elif", "else", "endif")))
            switch try expectName() {
            case "elif": continue
            case "else":
                let otherwise = try block("endif")
                advance()
                return .branch(branches, otherwise: otherwise)
            default: return .branch(branches, otherwise: [])
            }
        }
    }

    private mutating func loop() throws(TemplateError) -> Statement.Kind {
        let target = try assignmentTarget()
        guard skip(name: "in") else { throw unexpected("'in'") }
        let sequence = try tupleExpression(allowsConditional: false)
        let test = skip(name: "if") ? try expression() : nil
        if isNext(name: "recursive") { throw error("recursive loops are not supported, use a macro that calls itself") }
        let body = try block("endfor", "else", inLoop: true)
        var otherwise: [Statement] = []
        if try expectName() == "else" {
            otherwise = try block("endfor")
            advance()
        }
        return .loop(ForLoop(target: target, sequence: sequence, test: test, body: body, otherwise: otherwise))
    }

    private mutating func assignment() throws(TemplateError) -> Statement.Kind {
        let target = try assignmentTarget(allowsNamespace: true)
        if skip(symbol: "=") { return .set(target, try tupleExpression()) }
        let filter = isNext(symbol: "|") ? try filters(of: nil) : nil
        let body = try block("endset")
        advance()
        return .setBlock(target, filter: filter, body: body)
    }

    private mutating func with() throws(TemplateError) -> Statement.Kind {
        var targets: [(target: Target, value: Expression)] = []
        while current.kind != .blockEnd {
            if !targets.isEmpty { try expect(symbol: ",") }
            let target = try assignmentTarget()
            try expect(symbol: "=")
            targets.append((target, try expression()))
        }
        let body = try block("endwith")
        advance()
        return .with(targets, body: body)
    }

    private mutating func macro() throws(TemplateError) -> MacroDefinition {
        let name = try expectName()
        let definition = try macroBody(name: name, parameters: try parameters(), end: "endmacro")
        advance()
        return definition
    }

    private mutating func callBlock() throws(TemplateError) -> Statement.Kind {
        let parameters = isNext(symbol: "(") ? try self.parameters() : []
        let call = try expression()
        guard case .call = call.kind else { throw error("'{% call %}' needs the call of a macro", line: call.line) }
        let definition = try macroBody(name: nil, parameters: parameters, end: "endcall")
        advance()
        return .call(definition, call: call)
    }

    private mutating func macroBody(
        name: String?, parameters: [(name: String, defaultValue: Expression?)], end: String
    ) throws(TemplateError) -> MacroDefinition {
        reads.append([])
        let body = try block(end, inLoop: false)
        let names = reads.removeLast()
        if !reads.isEmpty { reads[reads.count - 1].formUnion(names) }
        return MacroDefinition(name: name, parameters: parameters, body: body, reads: names)
    }

    private mutating func parameters() throws(TemplateError) -> [(name: String, defaultValue: Expression?)] {
        var parameters: [(name: String, defaultValue: Expression?)] = []
        try expect(symbol: "(")
        while !isNext(symbol: ")") {
            if !parameters.isEmpty { try expect(symbol: ",") }
            let name = try expectName()
            let defaultValue = skip(symbol: "=") ? try expression() : nil
            if defaultValue == nil, parameters.last?.defaultValue != nil {
                throw error("the parameter '\(name)' without a default follows one with a default")
            }
            if parameters.contains(where: { $0.name == name }) { throw error("the parameter '\(name)' is given twice") }
            parameters.append((name, defaultValue))
        }
        try expect(symbol: ")")
        return parameters
    }

    private mutating func assignmentTarget(allowsNamespace: Bool = false) throws(TemplateError) -> Target {
        var targets: [Target] = []
        var isTuple = false
        while !(current.isEndOfTag || isNext(symbol: ")") || isNext(symbol: "=")) {
            targets.append(try singleTarget(allowsNamespace: allowsNamespace))
            guard skip(symbol: ",") else { break }
            isTuple = true
        }
        if let only = targets.first, !isTuple { return only }
        guard !targets.isEmpty else { throw unexpected("a name to assign to") }
        return .tuple(targets)
    }

    private mutating func singleTarget(allowsNamespace: Bool) throws(TemplateError) -> Target {
        if skip(symbol: "(") {
            let target = try nested { parser throws(TemplateError) in try parser.assignmentTarget() }
            try expect(symbol: ")")
            return target
        }
        let line = current.line
        let name = try expectName()
        if ["true", "false", "none", "True", "False", "None"].contains(name) {
            throw error("cannot assign to '\(name)'", line: line)
        }
        if allowsNamespace, skip(symbol: ".") { return .namespace(name, Member(try expectName())) }
        return .name(name)
    }
}
