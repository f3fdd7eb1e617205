public import LoRAFormats
public import OrderedCollections

/// A base's chat template together with the tokens that it gives a template.
public struct ChatFormat: Sendable {
    public let template: ChatTemplate
    private let tokens: OrderedDictionary<String, JSONValue>

    public init(template: ChatTemplate, tokenizer: Tokenizer) {
        self.template = template
        var tokens: OrderedDictionary<String, JSONValue> = [:]
        for (name, id) in [
            ("bos_token", tokenizer.bosID), ("eos_token", tokenizer.eosID), ("pad_token", tokenizer.padID),
        ] {
            if let text = id.flatMap(tokenizer.token(of:)) { tokens[name] = .string(text) }
        }
        self.tokens = tokens
    }

    /// The format of the base in `gguf`; nil when it has no chat template.
    /// - Throws: `TemplateError` when the template cannot be read.
    public init?(gguf: GGUFFile, tokenizer: Tokenizer) throws {
        guard let source = gguf.metadata["tokenizer.chat_template"]?.stringValue else { return nil }
        self.init(template: try ChatTemplate(source: source), tokenizer: tokenizer)
    }

    /// What a template reads for `messages` (an array of objects); `more` overrides the base's own.
    public func variables(
        messages: [JSONValue], tools: JSONValue? = nil, addGenerationPrompt: Bool,
        more: OrderedDictionary<String, JSONValue> = [:]
    ) -> OrderedDictionary<String, JSONValue> {
        var variables = tokens
        variables["messages"] = .array(messages)
        variables["add_generation_prompt"] = .bool(addGenerationPrompt)
        if let tools { variables["tools"] = tools }
        variables.merge(more) { $1 }
        return ChatTemplate.completed(variables)
    }

    /// The text of a conversation.
    /// - Throws: `TemplateError` with the line.
    public func render(messages: [JSONValue], tools: JSONValue? = nil, addGenerationPrompt: Bool) throws -> String {
        try template.render(variables(messages: messages, tools: tools, addGenerationPrompt: addGenerationPrompt))
    }
}
