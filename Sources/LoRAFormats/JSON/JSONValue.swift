public import OrderedCollections

/// A JSON value (RFC 8259) that keeps the order of object keys and tells integers from other numbers.
public indirect enum JSONValue: Sendable, Hashable {
    case null
    case bool(Bool)
    /// A number written without fraction or exponent that fits 64 bits.
    case integer(Int64)
    case number(Double)
    case string(String)
    case array([JSONValue])
    case object(OrderedDictionary<String, JSONValue>)
}

extension JSONValue {
    /// Parses one UTF-8 JSON text.
    /// - Throws: `FormatError` with the byte offset and what was expected.
    public init(parsing bytes: UnsafeRawBufferPointer) throws { fatalError("stub") }

    /// Parses one JSON text.
    public init(parsing text: String) throws { fatalError("stub") }

    /// The compact text: no spaces, keys in their order, non-ASCII kept, numbers in their shortest exact form.
    public func serialized(pretty: Bool = false, sortedKeys: Bool = false) -> String { fatalError("stub") }

    public subscript(key: String) -> JSONValue? {
        if case .object(let members) = self { members[key] } else { nil }
    }
    public var stringValue: String? { if case .string(let value) = self { value } else { nil } }
    public var arrayValue: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
    public var objectValue: OrderedDictionary<String, JSONValue>? {
        if case .object(let value) = self { value } else { nil }
    }
    public var boolValue: Bool? { if case .bool(let value) = self { value } else { nil } }
    /// An integer, or a number without a fraction.
    public var intValue: Int? {
        switch self {
        case .integer(let value): Int(value)
        case .number(let value): Int(exactly: value)
        default: nil
        }
    }
    public var doubleValue: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .number(let value): value
        default: nil
        }
    }
}
