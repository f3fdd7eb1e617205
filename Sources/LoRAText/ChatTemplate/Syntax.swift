/// An attribute name, both as a dictionary key and as the name of a method.
struct Member: Sendable {
    let text: Text
    let name: String

    init(_ name: String) {
        self.name = name
        self.text = Text(name)
    }
}

/// A literal of the template.
enum Constant: Sendable {
    case none
    case bool(Bool)
    case int(Int)
    case float(Double)
    case string(Text)
}

enum UnaryOperator: Sendable { case plus, minus, not }

enum BinaryOperator: String, Sendable {
    case add = "+"
    case subtract = "-"
    case multiply = "*"
    case divide = "/"
    case floorDivide = "//"
    case modulo = "%"
    case power = "**"
}

enum ComparisonOperator: String, Sendable {
    case equal = "=="
    case notEqual = "!="
    case less = "<"
    case lessOrEqual = "<="
    case greater = ">"
    case greaterOrEqual = ">="
    case contained = "in"
    case notContained = "not in"
}

/// An expression, with the line it begins in and the height of its tree.
struct Expression: Sendable {
    indirect enum Kind: Sendable {
        case constant(Constant)
        case name(String)
        case list([Expression])
        case tuple([Expression])
        case dict([(key: Expression, value: Expression)])
        case attribute(Expression, Member)
        case item(Expression, Expression)
        /// Only ever the index of an `item`.
        case slice(Expression?, Expression?, Expression?)
        case call(Expression, Arguments)
        /// Without a value in `{% filter %}` and `{% set %}` blocks, where the body takes its place.
        case filter(Expression?, String, Arguments)
        case test(Expression, String, Arguments)
        case unary(UnaryOperator, Expression)
        case binary(BinaryOperator, Expression, Expression)
        case concatenation([Expression])
        case comparison(Expression, [(relation: ComparisonOperator, operand: Expression)])
        case conjunction(Expression, Expression)
        case disjunction(Expression, Expression)
        case conditional(test: Expression, then: Expression, otherwise: Expression?)
    }

    let line: Int
    let height: Int
    let kind: Kind
}

/// What stands between the parentheses of a call, a filter or a test.
struct Arguments: Sendable {
    var positional: [Expression] = []
    var keywords: [(name: String, value: Expression)] = []
    /// `*sequence`
    var star: Expression?
    /// `**mapping`
    var doubleStar: Expression?

    var height: Int {
        var height = max(star?.height ?? 0, doubleStar?.height ?? 0)
        for argument in positional { height = max(height, argument.height) }
        for keyword in keywords { height = max(height, keyword.value.height) }
        return height
    }
}

/// What an assignment or a loop assigns to.
indirect enum Target: Sendable {
    case name(String)
    case namespace(String, Member)
    case tuple([Target])
}

/// A macro, or the body of a `call` block, which has no name.
struct MacroDefinition: Sendable {
    let name: String?
    let parameters: [(name: String, defaultValue: Expression?)]
    let body: [Statement]
    /// Names the body reads; `varargs`, `kwargs` and `caller` among them change what the macro accepts.
    let reads: Set<String>
}

struct ForLoop: Sendable {
    let target: Target
    let sequence: Expression
    let test: Expression?
    let body: [Statement]
    let otherwise: [Statement]
}

/// A statement, or text between statements, with the line it begins in.
struct Statement: Sendable {
    indirect enum Kind: Sendable {
        case text(Text)
        case output(Expression)
        case branch([(test: Expression, body: [Statement])], otherwise: [Statement])
        case loop(ForLoop)
        case set(Target, Expression)
        case setBlock(Target, filter: Expression?, body: [Statement])
        case macro(MacroDefinition)
        case call(MacroDefinition, call: Expression)
        case filter(Expression, body: [Statement])
        case with([(target: Target, value: Expression)], body: [Statement])
        case generation([Statement])
        case breakLoop
        case continueLoop
    }

    let line: Int
    let kind: Kind
}

/// Bounds that keep a hostile template from exhausting the stack, the memory or the patience of its reader.
enum TemplateLimit {
    /// UTF-8 bytes of a template's source.
    static let source = 4 << 20
    /// Unicode scalars of the rendered text and of any single string.
    static let output = 16 << 20
    /// Unicode scalars and list elements made during one rendering, in total.
    static let allocation = 64 << 20
    /// Expressions, statements and elements visited during one rendering.
    static let steps = 10_000_000
    /// Brackets, operators and blocks inside one another in the source.
    static let syntaxDepth = 64
    /// Operators, filters and attributes applied to one another in one expression.
    static let expressionHeight = 160
    /// Nested evaluations, through macros too.
    static let evaluationDepth = 240
    /// Generators that draw on one another, as `map` and `select` make them.
    static let generatorDepth = 40
    /// Lists and mappings inside one another.
    static let valueDepth = 200
    /// Elements of `range`, as in Jinja's sandbox.
    static let range = 100_000
}
