public import OrderedCollections

/// A JSON value (RFC 8259) that keeps the order of object keys and tells integers from other numbers.
public enum JSONValue: Sendable, Hashable {
    case null
    case bool(Bool)
    /// A number written without fraction or exponent that fits 64 bits.
    case integer(Int64)
    case number(Double)
    case string(String)
    case array([JSONValue])
    indirect case object(OrderedDictionary<String, JSONValue>)
}

extension JSONValue {
    /// Parses one UTF-8 JSON text.
    /// - Throws: `FormatError` with the byte offset and what was expected.
    public init(parsing bytes: UnsafeRawBufferPointer) throws {
        self = try bytes.withMemoryRebound(to: UInt8.self) { try JSONParser.parse($0.span) }
    }

    /// Parses one JSON text.
    /// - Throws: `FormatError` with the byte offset and what was expected.
    public init(parsing text: String) throws {
        var text = text
        self = try text.withUTF8 { try JSONParser.parse($0.span) }
    }

    /// Parses one UTF-8 JSON text.
    /// - Throws: `FormatError` with the byte offset and what was expected.
    public init(parsing bytes: [UInt8]) throws {
        self = try JSONParser.parse(bytes.span)
    }

    /// Parses one UTF-8 JSON text in which the object under each key `listing` becomes an array of [key, value].
    ///
    /// Keys of other objects differ in more than their normal form; the tokens of a vocabulary need not.
    /// - Throws: `FormatError` with the byte offset and what was expected.
    public init(parsing bytes: [UInt8], listing key: String) throws {
        self = try JSONParser.parse(bytes.span, listing: key)
    }

    /// The compact text: no spaces, keys in their order, non-ASCII kept, numbers in their shortest exact form.
    ///
    /// `pretty` puts each member on its own line, two spaces deeper; `sortedKeys` orders keys by their UTF-8 bytes.
    /// Infinities and NaN, which JSON cannot write, become `null`.
    public func serialized(pretty: Bool = false, sortedKeys: Bool = false) -> String {
        var serializer = JSONSerializer(pretty: pretty, sortedKeys: sortedKeys)
        serializer.write(self, depth: 0)
        return String(decoding: serializer.output, as: UTF8.self)
    }

    /// The member `key` of an object; `nil` when there is none or this is no object.
    public subscript(key: String) -> JSONValue? {
        if case .object(let members) = self { members[key] } else { nil }
    }
    /// The text of a string.
    public var stringValue: String? { if case .string(let value) = self { value } else { nil } }
    /// The elements of an array.
    public var arrayValue: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
    /// The members of an object.
    public var objectValue: OrderedDictionary<String, JSONValue>? {
        if case .object(let value) = self { value } else { nil }
    }
    /// The value of `true` or `false`.
    public var boolValue: Bool? { if case .bool(let value) = self { value } else { nil } }
    /// An integer, or a number without a fraction.
    public var intValue: Int? {
        switch self {
        case .integer(let value): Int(value)
        case .number(let value): Int(exactly: value)
        default: nil
        }
    }
    /// Any number.
    public var doubleValue: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .number(let value): value
        default: nil
        }
    }
    /// Whether this is `null`.
    public var isNull: Bool { if case .null = self { true } else { false } }
    /// What kind of value this is, for error messages: `a string`, `an object`…
    public var kind: String {
        switch self {
        case .null: "null"
        case .bool: "a boolean"
        case .integer: "an integer"
        case .number: "a number"
        case .string: "a string"
        case .array: "an array"
        case .object: "an object"
        }
    }
}
