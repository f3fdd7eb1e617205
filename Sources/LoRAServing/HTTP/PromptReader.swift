import LoRAFormats

/// Reads the `prompt` of `/v1/completions`: a text, texts, token ids, or several arrays of them.
struct PromptReader {
    let limit: Int
    let vocabulary: Int

    /// - Throws: 400 that says what is wrong.
    func read(_ value: JSONValue?) throws(APIError) -> [CompletionRequest.Prompt] {
        guard let value else {
            throw .badRequest("'prompt' is missing", param: "prompt", code: "missing_required_parameter")
        }
        if let text = value.stringValue { return [.text(text)] }
        guard let elements = value.arrayValue, let first = elements.first else { throw Self.mistyped }
        if first.intValue != nil { return [.tokens(try ids(elements))] }
        guard elements.count <= limit else {
            throw .badRequest("'prompt' has \(elements.count) prompts; at most \(limit) are taken", param: "prompt")
        }
        var prompts: [CompletionRequest.Prompt] = []
        for element in elements {
            switch element {
            case .string(let text) where first.stringValue != nil: prompts.append(.text(text))
            case .array(let values) where first.arrayValue != nil: prompts.append(.tokens(try ids(values)))
            default: throw Self.mistyped
            }
        }
        return prompts
    }

    private static var mistyped: APIError {
        .badRequest(
            "'prompt' must be a string, an array of strings, of token ids, or of arrays of token ids",
            param: "prompt", code: "invalid_type")
    }

    private func ids(_ values: [JSONValue]) throws(APIError) -> [Int32] {
        var ids: [Int32] = []
        ids.reserveCapacity(values.count)
        for value in values {
            guard case .integer(let id) = value else { throw Self.mistyped }
            guard (0..<Int64(vocabulary)).contains(id) else {
                throw .badRequest("'prompt' has the token \(id); ids are below \(vocabulary)", param: "prompt")
            }
            ids.append(Int32(id))
        }
        return ids
    }
}
