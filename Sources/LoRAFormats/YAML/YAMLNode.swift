public import OrderedCollections

/// A value of a YAML text, and where it stands.
///
/// Settings that people write by hand need the place of everything that is wrong with them, which a `JSONValue` does
/// not know.
public struct YAMLNode: Sendable {
    /// Counted from 1.
    public let line: Int
    /// Counted from 1, in characters.
    public let column: Int
    public let content: Content

    public enum Content: Sendable {
        /// A text without its quotes, and what it says: a text that is not quoted may be a number, true, false or nothing.
        case scalar(text: String, value: JSONValue)
        case list([YAMLNode])
        case mapping(OrderedDictionary<String, Member>)
    }

    /// What a mapping has under a key.
    public struct Member: Sendable {
        /// Of the key.
        public let line: Int
        public let value: YAMLNode
    }
}

extension YAMLNode {
    /// The text of a scalar as it was written, without its quotes; nil where nothing was written.
    public var text: String? {
        guard case .scalar(let text, let value) = content, !value.isNull else { return nil }
        return text
    }

    /// Whether nothing was written, or `null`.
    public var isNothing: Bool { if case .scalar(_, .null) = content { true } else { false } }

    /// The elements of a list.
    public var list: [YAMLNode]? { if case .list(let elements) = content { elements } else { nil } }

    /// The members of a mapping.
    public var mapping: OrderedDictionary<String, Member>? {
        if case .mapping(let members) = content { members } else { nil }
    }

    /// The same value without places.
    public var json: JSONValue {
        switch content {
        case .scalar(_, let value): value
        case .list(let elements): .array(elements.map(\.json))
        case .mapping(let members): .object(members.mapValues(\.value.json))
        }
    }
}

extension YAMLNode {
    /// What a text means that is not quoted: YAML 1.2's core schema (https://yaml.org/spec/1.2.2, 10.3) without octal,
    /// hexadecimal and infinite numbers, and with YAML 1.1's `yes`, `no`, `on`, `off` and `1_000`.
    static func meaning(ofPlain text: String) -> JSONValue {
        switch text {
        case "", "~", "null", "Null", "NULL": return .null
        case "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON": return .bool(true)
        case "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF": return .bool(false)
        default: return number(text) ?? .string(text)
        }
    }

    private static func number(_ text: String) -> JSONValue? {
        let characters = text.utf8
        let allowed = "0123456789+-._eE".utf8
        guard let first = characters.first, first != UInt8(ascii: "_"), characters.allSatisfy({ allowed.contains($0) })
        else {
            return nil
        }
        let digits = text.filter { $0 != "_" }
        // YAML's versions disagree about 010: eight, or ten.
        let unsigned = digits.drop { $0 == "+" || $0 == "-" }
        if unsigned.utf8.count > 1, unsigned.first == "0", unsigned.allSatisfy(\.isWholeNumber) { return nil }
        if let integer = Int64(digits) { return .integer(integer) }
        return Double(digits).flatMap { $0.isFinite ? .number($0) : nil }
    }
}
