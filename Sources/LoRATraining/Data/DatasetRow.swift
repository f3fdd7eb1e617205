internal import LoRAFormats
internal import OrderedCollections

/// The forms a row of a data set can have. The first row decides; every other row must have the same.
public enum RowForm: String, Sendable, CaseIterable {
    /// OpenAI's `messages`: objects with `role` and `content`, perhaps with `tools` beside them.
    case messages = "messages"
    /// ShareGPT's `conversations`: objects with `from` and `value`.
    case conversations = "conversations"
    /// `prompt` and `completion`.
    case completion = "prompt + completion"
    /// Alpaca's `instruction`, perhaps with `input`, and `output`.
    case instruction = "instruction + output"
    /// `text`, all of which is learned.
    case text = "text"

    /// The keys a row of this form cannot do without.
    var requiredKeys: [String] {
        switch self {
        case .messages: ["messages"]
        case .conversations: ["conversations"]
        case .completion: ["prompt", "completion"]
        case .instruction: ["instruction", "output"]
        case .text: ["text"]
        }
    }

    /// The form of a row with these members; in the order of the cases where several fit.
    static func detect(in row: JSONValue) throws(FormatError) -> RowForm {
        guard case .object(let members) = row else {
            throw FormatError("expected a JSON object, found \(kind(of: row))")
        }
        for form in allCases where form.requiredKeys.allSatisfy({ members[$0] != nil }) { return form }
        let forms = allCases.map(\.rawValue).joined(separator: ", or ")
        throw FormatError("has the keys \(list(members)); a row needs \(forms)")
    }
}

/// The content of one row, checked, before any tokenizer sees it.
enum DatasetRow: Sendable, Equatable {
    /// Messages as the chat template gets them, and the tools offered, if any.
    case conversation(messages: [JSONValue], tools: JSONValue?)
    case completion(prompt: String, completion: String)
    /// `input` is empty when there is none.
    case instruction(instruction: String, input: String, output: String)
    case text(String)
}

extension DatasetRow {
    /// - Throws: `FormatError` naming the key, without the line.
    init(_ row: JSONValue, form: RowForm) throws(FormatError) {
        guard case .object(let members) = row else {
            throw FormatError("expected a JSON object, found \(kind(of: row))")
        }
        let missing = form.requiredKeys.filter { members[$0] == nil }
        guard missing.isEmpty else {
            throw FormatError(
                "no \(missing.map { "\"\($0)\"" }.joined(separator: ", ")) among the keys \(list(members)); "
                    + "the first row has the form \(form.rawValue)")
        }
        switch form {
        case .messages: self = try Self.conversation(members, key: "messages", Self.message)
        case .conversations: self = try Self.conversation(members, key: "conversations", Self.turn)
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

    private typealias Members = OrderedDictionary<String, JSONValue>

    private static func string(_ members: Members, _ key: String) throws(FormatError) -> String {
        guard let value = members[key]?.stringValue else {
            throw FormatError("\"\(key)\" must be a string, found \(members[key].map(kind) ?? "nothing")")
        }
        return value
    }

    /// Empty when the key is absent or null.
    private static func optionalString(_ members: Members, _ key: String) throws(FormatError) -> String {
        guard let value = members[key], value != .null else { return "" }
        guard let text = value.stringValue else {
            throw FormatError("\"\(key)\" must be a string, found \(kind(of: value))")
        }
        return text
    }

    private static func conversation(
        _ members: Members, key: String, _ convert: (Members, String) throws(FormatError) -> JSONValue
    ) throws(FormatError) -> DatasetRow {
        guard let items = members[key]?.arrayValue, !items.isEmpty else {
            throw FormatError(
                "\"\(key)\" must be a list of messages that is not empty, found \(members[key].map(kind) ?? "nothing")")
        }
        var messages: [JSONValue] = []
        for (index, item) in items.enumerated() {
            let place = "\(key)[\(index)]"
            guard case .object(let message) = item else {
                throw FormatError("\(place) must be an object, found \(kind(of: item))")
            }
            messages.append(try convert(message, place))
        }
        guard messages.contains(where: { $0["role"]?.stringValue == "assistant" }) else {
            throw FormatError("\"\(key)\" has no answer of the assistant, so there is nothing to learn")
        }
        let tools = members["tools"].flatMap { $0 == .null ? nil : $0 }
        if let tools, tools.arrayValue == nil {
            throw FormatError("\"tools\" must be a list, found \(kind(of: tools))")
        }
        return .conversation(messages: messages, tools: tools)
    }

    /// Roles that chat templates know.
    private static let roles: Set<String> = ["system", "developer", "user", "assistant", "tool", "function"]

    /// Checks a message of OpenAI's form; the template gets it as it is.
    private static func message(_ message: Members, _ place: String) throws(FormatError) -> JSONValue {
        guard let role = message["role"]?.stringValue else {
            throw FormatError("\(place) has no \"role\" that is a string")
        }
        guard roles.contains(role) else {
            throw FormatError(
                "\(place) has the role \(quoted(role)); expected \(roles.sorted().joined(separator: ", "))")
        }
        switch message["content"] {
        case .string?: break
        case nil where message["tool_calls"] != nil, .null? where message["tool_calls"] != nil: break
        case nil: throw FormatError("\(place) has no \"content\"")
        case let content?:
            throw FormatError("\(place): \"content\" must be a string, found \(kind(of: content))")
        }
        return .object(message)
    }

    /// What the speakers of ShareGPT files are called, by the role they have.
    private static let speakers: [String: String] = [
        "system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
        "chatgpt": "assistant", "bard": "assistant", "bing": "assistant", "model": "assistant", "tool": "tool",
        "function_response": "tool", "observation": "tool",
    ]

    /// Turns a turn of ShareGPT's form into a message.
    private static func turn(_ turn: Members, _ place: String) throws(FormatError) -> JSONValue {
        guard let speaker = turn["from"]?.stringValue else {
            throw FormatError("\(place) has no \"from\" that is a string")
        }
        guard let role = speakers[speaker] else {
            throw FormatError(
                "\(place) is from \(quoted(speaker)); expected \(speakers.keys.sorted().joined(separator: ", "))")
        }
        guard let text = turn["value"]?.stringValue else {
            throw FormatError("\(place) has no \"value\" that is a string")
        }
        return .object(["role": .string(role), "content": .string(text)])
    }
}

/// What a JSON value is, in words for an error.
private func kind(of value: JSONValue) -> String {
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
private func list(_ members: OrderedDictionary<String, JSONValue>) -> String {
    if members.isEmpty { return "(none)" }
    let shown = members.keys.prefix(8).map(quoted).joined(separator: ", ")
    return members.count > 8 ? shown + ", …" : shown
}

/// A string from a file, quoted, without control characters and not too long.
private func quoted(_ text: String) -> String {
    let clean = String(
        text.unicodeScalars.prefix(40).map { $0.properties.isWhitespace || $0.value < 32 ? " " : Character($0) })
    return "\"\(clean)\(text.unicodeScalars.count > 40 ? "…" : "")\""
}
