internal import LoRAFormats
internal import OrderedCollections

/// The content of one row, checked, before any tokenizer sees it.
enum DatasetRow: Sendable, Equatable {
    case conversation(Conversation)
    case completion(prompt: String, completion: String)
    /// `input` is empty when there is none.
    case instruction(instruction: String, input: String, output: String)
    case text(String)
    /// Text that goes on from its beginning, in no template; only the rest is learned.
    case continuation(beginning: String, rest: String)
    /// The same beginning with the preferred answer, and with the other.
    indirect case preference(chosen: DatasetRow, rejected: DatasetRow)
}

extension DatasetRow {
    typealias Members = OrderedDictionary<String, JSONValue>

    /// - Throws: `FormatError` naming the key, without the line.
    init(_ row: JSONValue, form: RowForm) throws(FormatError) {
        guard case .object(let members) = row else {
            throw FormatError("expected a JSON object, found \(RowText.kind(of: row))")
        }
        let missing = form.requiredKeys.filter { members[$0] == nil }
        guard missing.isEmpty else {
            throw FormatError(
                "no \(missing.map { "\"\($0)\"" }.joined(separator: ", ")) among the keys \(RowText.list(members)); "
                    + "the first row has the form \(form.rawValue)")
        }
        switch form {
        case .preference: self = try Self.preference(members)
        case .messages: self = .conversation(try Conversation(messages: members))
        case .conversations: self = .conversation(try Conversation(turns: members))
        case .completion:
            self = .completion(
                prompt: try Self.string(members, "prompt"), completion: try Self.string(members, "completion"))
        case .instruction:
            self = .instruction(
                instruction: try Self.string(members, "instruction"),
                input: try Self.optionalString(members, "input"),
                output: try Self.string(members, "output"))
        case .text: self = .text(try Self.string(members, "text"))
        }
    }

    static func string(_ members: Members, _ key: String) throws(FormatError) -> String {
        guard let value = members[key]?.stringValue else {
            throw FormatError("\"\(key)\" must be a string, found \(members[key].map(RowText.kind) ?? "nothing")")
        }
        return value
    }

    /// Empty when the key is absent or null.
    private static func optionalString(_ members: Members, _ key: String) throws(FormatError) -> String {
        guard let value = members[key], value != .null else { return "" }
        guard let text = value.stringValue else {
            throw FormatError("\"\(key)\" must be a string, found \(RowText.kind(of: value))")
        }
        return text
    }
}
