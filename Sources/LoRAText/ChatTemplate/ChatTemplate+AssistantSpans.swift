public import LoRAFormats
public import OrderedCollections

extension ChatTemplate {
    /// Renders a whole conversation, without a prompt for another turn, and finds what its assistant messages became.
    ///
    /// The span of an assistant message begins where the prompt for it ends (the messages before it, rendered with
    /// `add_generation_prompt`) and ends with the message's turn, the text that closes the turn included: what a model
    /// has to write. Where the template has `generation` blocks, their text is taken instead.
    ///
    /// - Returns: The text, and the spans as ranges of its UTF-8 bytes, in their order.
    /// - Throws: `TemplateError`: what rendering throws, or the number of the message (from 1) whose prompt or turn is
    ///   no prefix of the whole, so that the template does not tell where it stands.
    public func renderWithAssistantSpans(
        _ variables: OrderedDictionary<String, JSONValue>
    ) throws -> (text: String, spans: [Range<Int>]) {
        guard case .array(let messages)? = variables["messages"] else {
            throw TemplateError(line: 1, message: "the variable 'messages' must be an array of messages")
        }
        var variables = variables
        variables["add_generation_prompt"] = .bool(false)
        let whole = try run(variables, now: nil)
        if marksGeneration {
            if let line = whole.unplacedLine {
                let message = "a 'generation' block inside a macro or a captured block has no place in the text"
                throw TemplateError(line: line, message: message)
            }
            return (whole.text, whole.generation)
        }
        let bytes = Array(whole.text.utf8)
        var spans: [Range<Int>] = []
        for (index, message) in messages.enumerated() where message["role"]?.stringValue == "assistant" {
            let start = try prefixLength(of: bytes, messages[..<index], isPrompt: true, index + 1, variables)
            let isLast = index == messages.count - 1
            let end =
                isLast ? bytes.count : try prefixLength(of: bytes, messages[...index], isPrompt: false, index + 1, variables)
            guard start <= end else {
                throw TemplateError(
                    line: 1, message: "the turn of message \(index + 1) is shorter than the prompt for it")
            }
            spans.append(start..<end)
        }
        return (whole.text, spans)
    }

    /// Bytes of the rendering of `messages`, which has to be a prefix of the whole conversation's `bytes`.
    private func prefixLength(
        of bytes: [UInt8], _ messages: ArraySlice<JSONValue>, isPrompt: Bool, _ number: Int,
        _ variables: OrderedDictionary<String, JSONValue>
    ) throws(TemplateError) -> Int {
        var variables = variables
        variables["messages"] = .array(Array(messages))
        variables["add_generation_prompt"] = .bool(isPrompt)
        let part = try run(variables, now: nil).text
        guard bytes.starts(with: part.utf8) else {
            let what = isPrompt ? "the prompt for message \(number)" : "the conversation up to message \(number)"
            throw TemplateError(
                line: 1,
                message: "\(what) is no prefix of the whole conversation, so its turns cannot be told apart: "
                    + "use a template with 'generation' blocks")
        }
        return part.utf8.count
    }
}
