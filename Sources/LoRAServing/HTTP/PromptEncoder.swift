import LoRAFormats
import LoRAText

/// A prompt as tokens.
struct EncodedPrompt: Sendable, Equatable {
    var ids: [Int32]
    /// What `echo` puts before the answer.
    var text: String
}

/// Turns what a request wants continued into tokens of the base.
struct PromptEncoder {
    let tokenizer: Tokenizer
    let chat: ChatFormat?
    /// Tokens that prompt and answer may have together.
    let positions: Int

    /// - Throws: 400 for what the chat template refuses, and for what does not fit the context.
    func encode(_ request: CompletionRequest) throws(APIError) -> [EncodedPrompt] {
        let prompts: [EncodedPrompt]
        switch request.input {
        case .messages(let messages): prompts = [EncodedPrompt(ids: try render(messages), text: "")]
        case .prompts(let inputs): prompts = inputs.map(encode)
        }
        let field = request.isChat ? "messages" : "prompt"
        for prompt in prompts {
            guard !prompt.ids.isEmpty else { throw .badRequest("the prompt has no tokens", param: field) }
            try check(prompt.ids.count, request, field: field)
        }
        return prompts
    }

    /// Tokens that an answer to `prompt` may have.
    func maximumTokens(_ prompt: EncodedPrompt, _ request: CompletionRequest) -> Int {
        request.maximumTokens ?? min(request.defaultTokens, positions - prompt.ids.count)
    }

    private func check(_ count: Int, _ request: CompletionRequest, field: String) throws(APIError) {
        // Without a number at least one token must fit.
        let answer = request.maximumTokens ?? 1
        guard count + answer > positions else { return }
        throw .badRequest(
            "the context is \(positions) tokens; the prompt has \(count)"
                + (request.maximumTokens.map { ", and \($0) are asked for" } ?? "")
                + "; shorten the prompt or ask for fewer",
            param: field, code: "context_length_exceeded")
    }

    private func render(_ messages: [JSONValue]) throws(APIError) -> [Int32] {
        guard let chat else {
            throw .badRequest("the base has no chat template; use /v1/completions", code: "no_chat_template")
        }
        let text: String
        do {
            text = try chat.render(messages: messages, addGenerationPrompt: true)
        } catch {
            throw .badRequest("\(error)", param: "messages", code: "chat_template_error")
        }
        return tokenizer.encode(text)
    }

    private func encode(_ prompt: CompletionRequest.Prompt) -> EncodedPrompt {
        switch prompt {
        case .tokens(let ids): return EncodedPrompt(ids: ids, text: tokenizer.decode(ids, skippingSpecial: false))
        case .text(let text):
            let ids = tokenizer.encode(text)
            guard let bos = tokenizer.bosID, tokenizer.addsBOS || ids.isEmpty, ids.first != bos else {
                return EncodedPrompt(ids: ids, text: text)
            }
            return EncodedPrompt(ids: [bos] + ids, text: text)
        }
    }
}
