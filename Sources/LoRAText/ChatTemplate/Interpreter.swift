import OrderedCollections

/// Runs a parsed template once.
final class Interpreter {
    enum Flow { case normal, breaks, continues }

    /// Ends rendering with a `TemplateError` at this line: the statement or expression that is being evaluated.
    var line = 1
    let now: Int
    private let variables: OrderedDictionary<String, JSONVariable>
    private var depth = 0
    private var steps = 0
    private var allocated = 0
    private var heap: [any HeapObject] = []
    private(set) var root: Scope
    /// The text being written, innermost capture last.
    private var buffers: [[Unicode.Scalar]] = [[]]
    /// Ranges of scalars of the text that `generation` blocks wrote.
    private(set) var generationRanges: [Range<Int>] = []
    /// Line of a `generation` block inside a macro or a captured block, whose place in the text is not known.
    private(set) var unplacedGenerationLine: Int?

    /// A variable of the conversation, converted when the template first asks for it.
    final class JSONVariable {
        let json: Input
        var value: Value?

        init(_ json: Input) { self.json = json }
    }

    init(variables: OrderedDictionary<String, JSONVariable>, now: Int) {
        self.variables = variables
        self.now = now
        root = Scope(parent: nil)
        root.isOwned = true
        heap.append(root)
    }

    func run(_ statements: [Statement]) throws(TemplateError) -> [Unicode.Scalar] {
        defer {
            for object in heap { object.clear() }
            heap = []
        }
        _ = try execute(statements, in: root)
        return buffers[0]
    }

    // MARK: Bounds

    func failure(_ message: String) -> TemplateError { TemplateError(line: line, message: message) }

    func step() throws(TemplateError) {
        steps += 1
        guard steps <= TemplateLimit.steps else {
            throw failure("the template takes more than \(TemplateLimit.steps) steps to render")
        }
    }

    /// Accounts for `count` scalars or elements that are about to be made.
    func charge(_ count: Int) throws(TemplateError) {
        guard count <= TemplateLimit.output else {
            throw failure("a value of \(count) characters or elements is too long, at most \(TemplateLimit.output)")
        }
        allocated += count
        guard allocated <= TemplateLimit.allocation else {
            throw failure("the template makes more than \(TemplateLimit.allocation) characters of intermediate values")
        }
    }

    func nested<Result>(_ body: () throws(TemplateError) -> Result) throws(TemplateError) -> Result {
        depth += 1
        defer { depth -= 1 }
        guard depth <= TemplateLimit.evaluationDepth else {
            throw failure("evaluation is nested more than \(TemplateLimit.evaluationDepth) levels deep")
        }
        return try body()
    }

    /// Takes charge of emptying `object` when rendering ends.
    func own<Object: HeapObject>(_ object: Object) throws(TemplateError) -> Object {
        try charge(16)
        heap.append(object)
        return object
    }

    func own(scopes scope: Scope) throws(TemplateError) {
        var next: Scope? = scope
        while let scope = next, !scope.isOwned {
            scope.isOwned = true
            next = try own(scope).parent
        }
    }

    // MARK: Variables

    func lookUp(_ name: String, in scope: Scope) throws(TemplateError) -> Value {
        var next: Scope? = scope
        while let scope = next {
            if let value = scope.variables[name] { return value }
            next = scope.parent
        }
        if let variable = variables[name] {
            if let value = variable.value { return value }
            let value = try convert(variable.json)
            variable.value = value
            return value
        }
        if Interpreter.globals.contains(name) { return .callable(Callable(.global(name))) }
        if name == "lipsum" { throw failure("the function 'lipsum' is not supported") }
        return .undefined(Undefined("'\(name)' is undefined"))
    }

    private func assign(_ value: Value, to target: Target, in scope: Scope) throws(TemplateError) {
        switch target {
        case .name(let name): scope.variables[name] = value
        case .namespace(let name, let member):
            guard case .namespace(let namespace) = try lookUp(name, in: scope) else {
                throw failure("cannot assign to attribute '\(member.name)': '\(name)' is not a namespace")
            }
            try charge(1)
            namespace.attributes[try namespaceKey(.string(member.text))] = value
        case .tuple(let targets):
            let elements = try self.elements(of: value)
            guard elements.count == targets.count else {
                throw failure("cannot unpack \(elements.count) values into \(targets.count) names")
            }
            for (target, element) in zip(targets, elements) { try assign(element, to: target, in: scope) }
        }
    }

    // MARK: Output

    func write(_ scalars: [Unicode.Scalar]) throws(TemplateError) {
        let last = buffers.count - 1
        guard buffers[last].count + scalars.count <= TemplateLimit.output else {
            throw failure("the rendered text is longer than \(TemplateLimit.output) characters")
        }
        buffers[last].append(contentsOf: scalars)
    }

    /// The text that `body` writes, kept from the output.
    func capture(_ body: () throws(TemplateError) -> Flow) throws(TemplateError) -> (text: Text, flow: Flow) {
        buffers.append([])
        do throws(TemplateError) {
            let flow = try body()
            let text = Text(buffers.removeLast())
            try charge(text.count)
            return (text, flow)
        } catch {
            buffers.removeLast()
            throw error
        }
    }

    // MARK: Statements

    func execute(_ statements: [Statement], in scope: Scope) throws(TemplateError) -> Flow {
        for statement in statements {
            try step()
            line = statement.line
            if case .text(let text) = statement.kind {
                try write(text.scalars)
                continue
            }
            let flow = try nested { () throws(TemplateError) in try execute(statement, in: scope) }
            guard flow == .normal else { return flow }
        }
        return .normal
    }

    private func execute(_ statement: Statement, in scope: Scope) throws(TemplateError) -> Flow {
        switch statement.kind {
        case .text(let text): try write(text.scalars)
        case .output(let expression): try write(try string(try evaluate(expression, in: scope)).scalars)
        case .branch(let branches, let otherwise):
            for branch in branches where try isTrue(try evaluate(branch.test, in: scope)) {
                return try execute(branch.body, in: scope)
            }
            return try execute(otherwise, in: scope)
        case .loop(let loop): return try execute(loop, in: scope)
        case .set(let target, let expression): try assign(try evaluate(expression, in: scope), to: target, in: scope)
        case .setBlock(let target, let filter, let body):
            return try executeSetBlock(target, filter, body, in: scope)
        case .macro(let definition):
            guard let name = definition.name else { return .normal }
            scope.variables[name] = .callable(Callable(.macro(try makeMacro(definition, in: scope))))
        case .call(let definition, let call):
            let caller = Callable(.macro(try makeMacro(definition, in: scope)))
            try write(try string(try evaluateCall(call, caller: .callable(caller), in: scope)).scalars)
        case .filter(let filter, let body):
            let inner = Scope(parent: scope)
            let (text, flow) = try capture { () throws(TemplateError) in try execute(body, in: inner) }
            guard flow == .normal else { return flow }
            try write(try string(try applyFilter(filter, toBody: text, in: inner)).scalars)
        case .with(let targets, let body):
            let inner = Scope(parent: scope)
            for (target, expression) in targets {
                try assign(try evaluate(expression, in: scope), to: target, in: inner)
            }
            return try execute(body, in: inner)
        case .generation(let body): try executeGeneration(body, line: statement.line, in: scope)
        case .breakLoop: return .breaks
        case .continueLoop: return .continues
        }
        return .normal
    }

    private func makeMacro(_ definition: MacroDefinition, in scope: Scope) throws(TemplateError) -> Macro {
        try own(scopes: scope)
        return try own(Macro(definition, scope: scope))
    }

    private func executeSetBlock(
        _ target: Target, _ filter: Expression?, _ body: [Statement], in scope: Scope
    ) throws(TemplateError) -> Flow {
        let inner = Scope(parent: scope)
        let (text, flow) = try capture { () throws(TemplateError) in try execute(body, in: inner) }
        guard flow == .normal else { return flow }
        var value = Value.string(text)
        if let filter { value = try applyFilter(filter, toBody: text, in: inner) }
        try assign(value, to: target, in: scope)
        return .normal
    }

    private func executeGeneration(_ body: [Statement], line: Int, in scope: Scope) throws(TemplateError) {
        if buffers.count > 1 && unplacedGenerationLine == nil { unplacedGenerationLine = line }
        let start = buffers[0].count
        _ = try execute(body, in: Scope(parent: scope))
        if buffers.count == 1 { generationRanges.append(start..<buffers[0].count) }
    }

    private func execute(_ loop: ForLoop, in scope: Scope) throws(TemplateError) -> Flow {
        let sequence = try evaluate(loop.sequence, in: scope)
        var source = try iterator(over: sequence)
        var count = try knownCount(of: sequence)
        if let test = loop.test {
            source = try filtered(source, loop.target, test, in: scope)
            count = nil
        }
        let state = try own(LoopState(source, count: count))
        // As Jinja has it, 'else' also follows a loop that never came to the end of its body.
        var completesOnce = false
        while let element = try state.advance() {
            try step()
            let inner = Scope(parent: scope)
            inner.variables["loop"] = .loop(state)
            try assign(element, to: loop.target, in: inner)
            let flow = try execute(loop.body, in: inner)
            if flow == .normal { completesOnce = true }
            if flow == .breaks { break }
        }
        return !completesOnce ? try execute(loop.otherwise, in: Scope(parent: scope)) : .normal
    }

    private func filtered(
        _ source: Generator, _ target: Target, _ test: Expression, in scope: Scope
    ) throws(TemplateError) -> Generator {
        try own(scopes: scope)
        return try own(
            Generator { [unowned self] () throws(TemplateError) -> Value? in
                while let element = try source.next() {
                    try self.step()
                    let inner = Scope(parent: scope)
                    try self.assign(element, to: target, in: inner)
                    if try self.isTrue(try self.evaluate(test, in: inner)) { return element }
                }
                return nil
            })
    }
}
