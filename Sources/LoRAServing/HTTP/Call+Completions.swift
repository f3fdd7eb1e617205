import HTTPTypes
import Hummingbird
import HummingbirdCore
import LoRAFormats
import LoRAText
import NIOCore

extension Call {
    /// `POST /v1/chat/completions` and `POST /v1/completions`
    func complete(isChat: Bool) async throws -> Response {
        guard let key else { throw APIError.unauthorized }
        let body = try await json()
        let vocabulary = serving.tokenizer.vocabularyCount
        let request =
            isChat
            ? try CompletionRequest(chat: body, limits: serving.limits, vocabulary: vocabulary)
            : try CompletionRequest(text: body, limits: serving.limits, vocabulary: vocabulary)
        guard serving.allows(key, model: request.model) else { throw APIError.modelForbidden(request.model) }
        let generation = try await start(request, key)
        return request.streams ? generation.streamed() : try await generation.collected()
    }

    private func start(_ request: CompletionRequest, _ key: AccessKey) async throws -> Generation {
        let admission: Admission
        do throws(LimitExceeded) {
            admission = try serving.access.admit(key)
        } catch {
            throw APIError.tooMany(error.message, code: "limit_exceeded", retryAfter: error.retryAfter)
        }
        do {
            let adapter = try await serving.snapshot(request.model, for: key)
            let encoder = PromptEncoder(
                tokenizer: serving.tokenizer, chat: serving.chat, positions: serving.positions)
            let prompts = try encoder.encode(request)
            return try Generation(
                self, request, adapter: adapter, prompts: prompts, encoder: encoder, admission: admission)
        } catch {
            admission.finish(tokens: 0)
            throw error
        }
    }
}

extension Generation {
    /// The reply when all answers are complete.
    func collected() async throws -> Response {
        var texts = prompts.flatMap { Array(repeating: request.echoes ? $0.text : "", count: request.choices) }
        var tokens: [[ScoredToken]] = Array(repeating: [], count: texts.count)
        var finishes: [FinishReason?] = Array(repeating: nil, count: texts.count)
        try await run { answer, event in
            switch event {
            case .started: break
            case .prompt(let scored): tokens[answer] += scored
            case .text(let text, let scored):
                texts[answer] += text
                tokens[answer] += scored
            case .finished(let reason, _): finishes[answer] = reason
            }
        }
        finish()
        let answers = texts.indices.map { index in
            ReplyFormat.Answer(
                text: texts[index], logprobs: logprobs(tokens[index]), finish: finishes[index])
        }
        return Response(json: reply.reply(answers, usage: usage))
    }

    private func logprobs(_ tokens: [ScoredToken]) -> JSONValue? {
        guard request.alternatives != nil else { return nil }
        if request.isChat { return Logprobs.chat(tokens) }
        var offset = 0
        return Logprobs.completions(tokens, offset: &offset)
    }

    /// The reply as server-sent events.
    func streamed() -> Response {
        let body = ResponseBody { writer in
            do {
                try await self.send { try await writer.write(Self.event($0.serialized())) }
                try await writer.write(Self.event("[DONE]"))
            } catch let error as APIError {
                // The status is long sent.
                try await writer.write(Self.event(error.json.serialized()))
            }
            try await writer.finish(nil)
        }
        return Response(
            status: .ok,
            headers: [.contentType: "text/event-stream", .cacheControl: "no-cache", .accelBuffering: "no"], body: body)
    }

    private static func event(_ text: String) -> ByteBuffer { ByteBuffer(string: "data: \(text)\n\n") }

    private func send(_ write: (JSONValue) async throws -> Void) async throws {
        var offsets = Array(repeating: 0, count: prompts.count * request.choices)
        try await run { answer, event in
            switch event {
            case .started:
                if let opening = reply.opening(answer) { try await write(opening) }
                let prompt = prompts[answer / request.choices].text
                if request.echoes, request.alternatives == nil {
                    try await write(reply.part(answer, text: prompt, logprobs: nil))
                }
            case .prompt(let tokens):
                let prompt = prompts[answer / request.choices].text
                try await write(
                    reply.part(answer, text: prompt, logprobs: logprobs(tokens, offset: &offsets[answer])))
            case .text(let text, let tokens):
                try await write(reply.part(answer, text: text, logprobs: logprobs(tokens, offset: &offsets[answer])))
            case .finished(let reason, _): try await write(reply.closing(answer, finish: reason))
            }
        }
        finish()
        if request.includesUsage { try await write(reply.usagePart(usage)) }
    }

    private func logprobs(_ tokens: [ScoredToken], offset: inout Int) -> JSONValue? {
        guard request.alternatives != nil else { return nil }
        return request.isChat ? Logprobs.chat(tokens) : Logprobs.completions(tokens, offset: &offset)
    }
}

extension HTTPField.Name {
    /// Tells nginx to pass each event on as it comes.
    static let accelBuffering = HTTPField.Name(lenient: "X-Accel-Buffering")
}
