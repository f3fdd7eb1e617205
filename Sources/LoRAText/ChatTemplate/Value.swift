import OrderedCollections

/// A value while a template runs, with Python's kinds and meanings.
enum Value {
    case undefined(Undefined)
    case none
    case bool(Bool)
    case int(Int)
    case float(Double)
    case string(Text)
    case list(ListValue)
    case tuple(ListValue)
    case dict(DictValue)
    case view(DictView)
    case range(RangeValue)
    case generator(Generator)
    case namespace(Namespace)
    case loop(LoopState)
    case callable(Callable)

    static func text(_ string: String) -> Value { .string(Text(string)) }

    /// Containers inside one another, this one included. Objects that the interpreter owns count as leaves.
    var depth: Int {
        switch self {
        case .list(let list), .tuple(let list): list.depth
        case .dict(let dict): dict.depth
        case .view(let view): view.dict.depth + 1
        case .callable(let callable): callable.depth
        default: 0
        }
    }

    /// The name of the type as Python prints it.
    var typeName: String {
        switch self {
        case .undefined: "Undefined"
        case .none: "NoneType"
        case .bool: "bool"
        case .int: "int"
        case .float: "float"
        case .string(let text): text.isMarkup ? "Markup" : "str"
        case .list: "list"
        case .tuple: "tuple"
        case .dict: "dict"
        case .view(let view): "dict_\(view.part.rawValue)"
        case .range: "range"
        case .generator: "generator"
        case .namespace: "Namespace"
        case .loop: "LoopContext"
        case .callable: "function"
        }
    }

    var isUndefined: Bool { if case .undefined = self { true } else { false } }
}

/// A missing value: prints as nothing, and `reason` is the error of doing anything else with it.
final class Undefined {
    let reason: String

    init(_ reason: String) { self.reason = reason }
}

final class ListValue {
    let elements: [Value]
    let depth: Int
    /// A pair made by `groupby`, which has the attributes `grouper` and `list`.
    let isGroup: Bool

    init(_ elements: [Value], isGroup: Bool = false) {
        self.elements = elements
        self.isGroup = isGroup
        depth = (elements.lazy.map(\.depth).max() ?? 0) + 1
    }
}

final class DictValue {
    let entries: OrderedDictionary<Key, Value>
    let depth: Int

    init(_ entries: OrderedDictionary<Key, Value>) {
        self.entries = entries
        depth = (entries.values.lazy.map(\.depth).max() ?? 0) + 1
    }

    subscript(name: Text) -> Value? { entries[Key(name)] }
}

/// A key of a dictionary. `1`, `1.0` and `True` are the same key.
struct Key: Hashable {
    let value: Value

    init(_ text: Text) { value = .string(text) }

    /// Nothing when Python could not hash the value, or when its hash is its identity.
    init?(_ value: Value) {
        switch value {
        case .none, .bool, .int, .float, .string: break
        case .tuple(let tuple):
            // Tuples that share tuples would take exponential time to hash.
            guard tuple.depth == 1, tuple.elements.allSatisfy({ Key($0) != nil }) else { return nil }
        default: return nil
        }
        self.value = value
    }

    static func == (left: Key, right: Key) -> Bool {
        switch (left.value, right.value) {
        case (.string(let left), .string(let right)): left == right
        case (.none, .none): true
        case (.tuple(let left), .tuple(let right)):
            left.elements.count == right.elements.count
                && zip(left.elements, right.elements).allSatisfy { pair in
                    guard let left = Key(pair.0), let right = Key(pair.1) else { return false }
                    return left == right
                }
        default:
            if let left = Number(left.value), let right = Number(right.value) { left == right } else { false }
        }
    }

    func hash(into hasher: inout Hasher) {
        switch value {
        case .string(let text): hasher.combine(text)
        case .tuple(let tuple): for element in tuple.elements { Key(element)?.hash(into: &hasher) }
        case .none: hasher.combine(0)
        default: hasher.combine(Number(value)?.double ?? 0)
        }
    }
}

final class DictView {
    enum Part: String { case keys, values, items }

    let dict: DictValue
    let part: Part

    init(_ dict: DictValue, _ part: Part) {
        self.dict = dict
        self.part = part
    }

    var elements: [Value] {
        switch part {
        case .keys: dict.entries.keys.map(\.value)
        case .values: Array(dict.entries.values)
        case .items: dict.entries.map { .tuple(ListValue([$0.key.value, $0.value])) }
        }
    }
}

final class RangeValue {
    let start: Int
    let stop: Int
    let step: Int
    let count: Int

    init(start: Int, stop: Int, step: Int, count: Int) {
        self.start = start
        self.stop = stop
        self.step = step
        self.count = count
    }

    subscript(index: Int) -> Int { start + index * step }
}

/// Something that refers to other values and can change, so that it might come to refer to itself. The interpreter
/// owns all of them and empties them when it ends: no cycle stays behind, and no long chain is freed recursively.
protocol HeapObject: AnyObject {
    /// How deep taking a value from the object recurses.
    var depth: Int { get }

    func clear()
}

extension HeapObject {
    var depth: Int { 0 }
}

/// Elements that are made one at a time and can be taken once.
final class Generator: HeapObject {
    private var produce: (() throws(TemplateError) -> Value?)?
    /// Generators that this one draws on, one through the other.
    let depth: Int

    init(over source: Generator? = nil, _ produce: @escaping () throws(TemplateError) -> Value?) {
        self.produce = produce
        depth = source.map { $0.depth + 1 } ?? 0
    }

    func next() throws(TemplateError) -> Value? {
        guard let produce else { return nil }
        let value = try produce()
        if value == nil { self.produce = nil }
        return value
    }

    func clear() { produce = nil }
}

final class Namespace: HeapObject {
    var attributes: OrderedDictionary<Key, Value>

    init(_ attributes: OrderedDictionary<Key, Value>) { self.attributes = attributes }

    func clear() { attributes = [:] }
}

/// Variables of a block, and the block around it.
final class Scope: HeapObject {
    var variables: [String: Value] = [:]
    let parent: Scope?
    /// Whether a macro or a loop object may keep this scope beyond its block.
    var isOwned = false

    init(parent: Scope?) { self.parent = parent }

    func clear() { variables = [:] }
}

/// What can be called, in a template's hands.
final class Callable {
    enum Kind {
        case global(String)
        case method(Value, String)
        case macro(Macro)
        case cycler(Cycler)
        case joiner(Joiner)
    }

    let kind: Kind
    let depth: Int

    init(_ kind: Kind) {
        self.kind = kind
        if case .method(let receiver, _) = kind { depth = receiver.depth + 1 } else { depth = 0 }
    }
}

final class Macro: HeapObject {
    let definition: MacroDefinition
    private(set) var scope: Scope?

    init(_ definition: MacroDefinition, scope: Scope) {
        self.definition = definition
        self.scope = scope
    }

    func clear() { scope = nil }
}

final class Cycler: HeapObject {
    var items: [Value]
    var position = 0

    init(_ items: [Value]) { self.items = items }

    func clear() { items = [] }
}

final class Joiner {
    let separator: Text
    var isUsed = false

    init(_ separator: Text) { self.separator = separator }
}
