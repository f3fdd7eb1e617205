internal import LoRAFormats
internal import OrderedCollections

/// Rows of `prompt`, `chosen` and `rejected`. As in TRL, answers are strings or lists of messages, and the prompt may be
/// left out where both begin with it.
extension DatasetRow {
    /// - Throws: `FormatError` naming the key, without the line.
    static func preference(_ row: Members) throws(FormatError) -> DatasetRow {
        switch (row["chosen"], row["rejected"]) {
        case (.string(let chosen)?, .string(let rejected)?): return try texts(row, chosen, rejected)
        case (.array?, .array?):
            return try conversations(
                row, Conversation.messages(row, key: "chosen"), Conversation.messages(row, key: "rejected"))
        case (let chosen, let rejected):
            let kinds = [chosen, rejected].map { $0.map(RowText.kind) ?? "nothing" }
            throw FormatError(
                "\"chosen\" and \"rejected\" must both be strings or both lists of messages, found \(kinds[0]) and "
                    + kinds[1])
        }
    }

    // MARK: Strings

    private static func texts(
        _ row: Members, _ chosen: String, _ rejected: String
    ) throws(FormatError) -> DatasetRow {
        if (row["prompt"] ?? .null) != .null {
            let prompt = try string(row, "prompt")
            return .preference(
                chosen: .completion(prompt: prompt, completion: chosen),
                rejected: .completion(prompt: prompt, completion: rejected))
        }
        let beginning = sharedBeginning(chosen, rejected)
        guard !beginning.isEmpty else {
            throw FormatError(
                "\"chosen\" and \"rejected\" begin differently, so there is no prompt in them; give it as \"prompt\""
            )
        }
        let rest = { (text: String) in String(text.unicodeScalars.dropFirst(beginning.unicodeScalars.count)) }
        return .preference(
            chosen: .continuation(beginning: beginning, rest: rest(chosen)),
            rejected: .continuation(beginning: beginning, rest: rest(rejected)))
    }

    /// What both begin with, scalar by scalar as TRL has it (two spellings of é differ); a space before the place where
    /// they part belongs to what follows, as most tokenizers have it.
    private static func sharedBeginning(_ one: String, _ other: String) -> String {
        var shared = String.UnicodeScalarView(
            zip(one.unicodeScalars, other.unicodeScalars).prefix { $0 == $1 }.map(\.0))
        if shared.last == " " { shared.removeLast() }
        return String(shared)
    }

    // MARK: Messages

    private static func conversations(
        _ row: Members, _ chosen: [Conversation.Message], _ rejected: [Conversation.Message]
    ) throws(FormatError) -> DatasetRow {
        let (prompt, chosen, rejected) = try divided(row, chosen, rejected)
        let tools = try Conversation.tools(row)
        for (key, answer) in [("chosen", chosen), ("rejected", rejected)]
        where !answer.isEmpty && !answer.contains(where: \.isAnswer) {
            throw FormatError("\"\(key)\" has no answer of the assistant")
        }
        // What was said before is context, the assistant's own words too.
        let context = prompt.map { Conversation.Message($0.value, weight: 0) }
        return .preference(
            chosen: .conversation(Conversation(messages: context + chosen, tools: tools)),
            rejected: .conversation(Conversation(messages: context + rejected, tools: tools)))
    }

    /// The messages before the answers, and the answers.
    private static func divided(
        _ row: Members, _ chosen: [Conversation.Message], _ rejected: [Conversation.Message]
    ) throws(FormatError) -> (
        prompt: [Conversation.Message], chosen: [Conversation.Message], rejected: [Conversation.Message]
    ) {
        switch row["prompt"] ?? .null {
        case .array: return (try Conversation.messages(row, key: "prompt"), chosen, rejected)
        case .string(let question) where chosen[0].isAnswer && rejected[0].isAnswer:
            return ([Conversation.Message(role: "user", content: question)], chosen, rejected)
        case .null, .string:
            let count = zip(chosen, rejected).prefix { agree($0.value, $1.value) }.count
            guard count > 0 else {
                throw FormatError(
                    "\"chosen\" and \"rejected\" begin with different messages, so there is no prompt in them; give "
                        + "it as \"prompt\"")
            }
            // Some data sets repeat the question beside the conversations.
            if let question = row["prompt"]?.stringValue,
                chosen[count - 1].value["content"]?.stringValue != question
            {
                throw FormatError(
                    "\"prompt\" is not the message before the answers; give it as a list of messages, or leave it out"
                )
            }
            return (Array(chosen[..<count]), Array(chosen[count...]), Array(rejected[count...]))
        case let other:
            throw FormatError(
                "\"prompt\" must be a string or a list of messages, found \(RowText.kind(of: other))")
        }
    }

    /// Whether two values of JSON are equal, whose keys have no order.
    private static func agree(_ one: JSONValue, _ other: JSONValue) -> Bool {
        switch (one, other) {
        case (.object(let members), .object(let others)):
            return members.count == others.count
                && members.allSatisfy { name, value in others[name].map { agree(value, $0) } ?? false }
        case (.array(let elements), .array(let others)):
            return elements.count == others.count && zip(elements, others).allSatisfy { agree($0, $1) }
        default: return one == other
        }
    }
}
