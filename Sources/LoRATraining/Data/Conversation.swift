internal import LoRAFormats
internal import OrderedCollections

/// Messages as the chat template gets them, and which of them are learned.
struct Conversation: Sendable, Equatable {
    struct Message: Sendable, Equatable {
        /// With every member of the row but `weight`.
        let value: JSONValue
        /// Whether its tokens are supervised: an answer of the assistant that is not empty and whose weight is not 0.
        let isLearned: Bool

        var isAnswer: Bool { value["role"]?.stringValue == "assistant" }

        /// - Parameter weight: 0 or 1, as in OpenAI's format for fine-tuning.
        init(_ value: JSONValue, weight: Int = 1) {
            self.value = value
            let isEmpty = (value["content"]?.stringValue ?? "").isEmpty && (value["tool_calls"] ?? .null) == .null
            isLearned = value["role"]?.stringValue == "assistant" && weight != 0 && !isEmpty
        }

        init(role: String, content: String, weight: Int = 1) {
            self.init(.object(["role": .string(role), "content": .string(content)]), weight: weight)
        }
    }

    var messages: [Message]
    /// A list of what may be called; nil when the row offers nothing.
    var tools: JSONValue?

    init(messages: [Message], tools: JSONValue? = nil) {
        self.messages = messages
        self.tools = tools
    }

    /// A question and its answer.
    init(question: String, answer: String) {
        messages = [Message(role: "user", content: question), Message(role: "assistant", content: answer)]
    }
}

extension Conversation {
    private typealias Members = DatasetRow.Members

    /// A row of OpenAI's form.
    /// - Throws: `FormatError` naming the message.
    init(messages row: DatasetRow.Members) throws(FormatError) {
        try self.init(row, key: "messages", Self.message)
    }

    /// A row of ShareGPT's form.
    /// - Throws: `FormatError` naming the turn.
    init(turns row: DatasetRow.Members) throws(FormatError) {
        try self.init(row, key: "conversations", Self.turn)
    }

    private init(
        _ row: Members, key: String, _ convert: (Members, String) throws(FormatError) -> Message
    ) throws(FormatError) {
        messages = try Self.messages(row, key: key, convert)
        guard messages.contains(where: \.isAnswer) else {
            throw FormatError("\"\(key)\" has no answer of the assistant, so there is nothing to learn")
        }
        tools = try Self.tools(row)
    }

    /// What a row says may be called.
    /// - Throws: `FormatError` when it is no list.
    static func tools(_ row: DatasetRow.Members) throws(FormatError) -> JSONValue? {
        guard let tools = row["tools"], tools != .null else { return nil }
        guard tools.arrayValue != nil else {
            throw FormatError("\"tools\" must be a list, found \(RowText.kind(of: tools))")
        }
        return tools
    }

    /// The messages under `key`, whoever speaks in them.
    private static func messages(
        _ row: Members, key: String, _ convert: (Members, String) throws(FormatError) -> Message
    ) throws(FormatError) -> [Message] {
        guard let items = row[key]?.arrayValue, !items.isEmpty else {
            let found = row[key].map(RowText.kind) ?? "nothing"
            throw FormatError("\"\(key)\" must be a list of messages that is not empty, found \(found)")
        }
        var messages: [Message] = []
        for (index, item) in items.enumerated() {
            let place = "\(key)[\(index)]"
            guard case .object(let message) = item else {
                throw FormatError("\(place) must be an object, found \(RowText.kind(of: item))")
            }
            messages.append(try convert(message, place))
        }
        return messages
    }

    /// The messages of OpenAI's form under `key` of a row, whoever speaks in them.
    /// - Throws: `FormatError` naming the message.
    static func messages(_ row: DatasetRow.Members, key: String) throws(FormatError) -> [Message] {
        try messages(row, key: key, message)
    }

    /// Roles that chat templates know.
    private static let roles: Set<String> = ["system", "developer", "user", "assistant", "tool", "function"]

    /// Checks a message of OpenAI's form; the template gets it as it is.
    private static func message(_ message: Members, _ place: String) throws(FormatError) -> Message {
        guard let role = message["role"]?.stringValue else {
            throw FormatError("\(place) has no \"role\" that is a string")
        }
        guard roles.contains(role) else {
            throw FormatError(
                "\(place) has the role \(RowText.quoted(role)); expected \(roles.sorted().joined(separator: ", "))")
        }
        let calls = (message["tool_calls"] ?? .null) != .null
        switch message["content"] {
        case .string?: break
        case nil where calls, .null? where calls: break
        case nil: throw FormatError("\(place) has no \"content\"")
        case let content?:
            throw FormatError("\(place): \"content\" must be a string, found \(RowText.kind(of: content))")
        }
        let weight = try weight(message, role: role, place)
        var members = message
        members["weight"] = nil
        return Message(.object(members), weight: weight)
    }

    /// Whether the message is learned, as in OpenAI's format: 1, the default, or 0.
    private static func weight(_ message: Members, role: String, _ place: String) throws(FormatError) -> Int {
        guard let value = message["weight"], value != .null else { return 1 }
        guard let weight = value.intValue, weight == 0 || weight == 1 else {
            let found = value.doubleValue == nil ? RowText.kind(of: value) : value.serialized()
            throw FormatError("\(place): \"weight\" must be 0 or 1, found \(found)")
        }
        guard weight == 0 || role == "assistant" else {
            throw FormatError("\(place): \"weight\" is 1, but only answers of the assistant are learned; remove it")
        }
        return weight
    }

    /// What the speakers of ShareGPT files are called, by the role they have.
    private static let speakers: [String: String] = [
        "system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
        "chatgpt": "assistant", "bard": "assistant", "bing": "assistant", "model": "assistant", "tool": "tool",
        "function_response": "tool", "observation": "tool",
    ]

    /// Turns a turn of ShareGPT's form into a message.
    private static func turn(_ turn: Members, _ place: String) throws(FormatError) -> Message {
        guard let speaker = turn["from"]?.stringValue else {
            throw FormatError("\(place) has no \"from\" that is a string")
        }
        guard let role = speakers[speaker] else {
            throw FormatError(
                "\(place) is from \(RowText.quoted(speaker)); expected \(speakers.keys.sorted().joined(separator: ", "))"
            )
        }
        guard let text = turn["value"]?.stringValue else {
            throw FormatError("\(place) has no \"value\" that is a string")
        }
        return Message(role: role, content: text, weight: try weight(turn, role: role, place))
    }
}
