internal import LoRAFormats
internal import OrderedCollections

/// Parts of a row in words, for errors of one line.
enum RowText {
    /// What a JSON value is.
    static func kind(of value: JSONValue) -> String {
        switch value {
        case .null: "null"
        case .bool: "a boolean"
        case .integer, .number: "a number"
        case .string: "a string"
        case .array(let items): items.isEmpty ? "an empty list" : "a list"
        case .object: "an object"
        }
    }

    /// The first keys of an object, quoted and cut to a length that fits an error.
    static func list(_ members: OrderedDictionary<String, JSONValue>) -> String {
        if members.isEmpty { return "(none)" }
        let shown = members.keys.prefix(8).map(quoted).joined(separator: ", ")
        return members.count > 8 ? shown + ", …" : shown
    }

    /// A string from a file, quoted, without control characters and not too long.
    static func quoted(_ text: String) -> String {
        let clean = String(
            text.unicodeScalars.prefix(40).map { $0.properties.isWhitespace || $0.value < 32 ? " " : Character($0) })
        return "\"\(clean)\(text.unicodeScalars.count > 40 ? "…" : "")\""
    }
}
