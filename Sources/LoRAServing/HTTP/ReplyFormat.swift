import Foundation
import LoRAFormats
import OrderedCollections

/// Tokens of a request.
struct Usage: Sendable, Equatable {
    var prompt: Int
    var completion: Int
    /// Of the prompts' tokens, those that the prefix cache held.
    var cached: Int

    var json: JSONValue {
        .object([
            "prompt_tokens": JSONValue(prompt), "completion_tokens": JSONValue(completion),
            "total_tokens": JSONValue(prompt + completion),
            "prompt_tokens_details": .object(["cached_tokens": JSONValue(cached)]),
        ])
    }
}

/// Writes replies and their parts as the OpenAI interface has them.
struct ReplyFormat: Sendable {
    private let isChat: Bool
    private let model: String
    private let fingerprint: String
    private let hasUsage: Bool
    private let id: String
    private let created: Int

    init(request: CompletionRequest, fingerprint: String) {
        isChat = request.isChat
        model = request.model
        self.fingerprint = fingerprint
        hasUsage = request.includesUsage
        id = (isChat ? "chatcmpl-" : "cmpl-") + RandomID.make(digits: 32)
        created = Int(Date().timeIntervalSince1970)
    }

    private func envelope(_ object: String, choices: [JSONValue]) -> OrderedDictionary<String, JSONValue> {
        [
            "id": .string(id), "object": .string(object), "created": JSONValue(created), "model": .string(model),
            "system_fingerprint": .string(fingerprint), "choices": .array(choices),
        ]
    }

    // MARK: Whole replies

    func reply(_ answers: [Answer], usage: Usage) -> JSONValue {
        let choices = answers.enumerated().map { index, answer in
            choice(
                index, content: isChat ? ("message", message(answer.text)) : ("text", .string(answer.text)),
                logprobs: answer.logprobs, finish: answer.finish)
        }
        var members = envelope(isChat ? "chat.completion" : "text_completion", choices: choices)
        members["usage"] = usage.json
        return .object(members)
    }

    private func message(_ text: String) -> JSONValue {
        .object(["role": .string("assistant"), "content": .string(text), "refusal": .null])
    }

    private func choice(
        _ index: Int, content: (name: String, value: JSONValue), logprobs: JSONValue?, finish: FinishReason?
    ) -> JSONValue {
        .object([
            "index": JSONValue(index), content.name: content.value, "logprobs": logprobs ?? .null,
            "finish_reason": finish.map { .string($0.rawValue) } ?? .null,
        ])
    }

    // MARK: Parts of a stream

    /// The first part of an answer: who speaks. Completions have none.
    func opening(_ index: Int) -> JSONValue? {
        guard isChat else { return nil }
        return part(index, delta: .object(["role": .string("assistant"), "content": .string("")]))
    }

    func part(_ index: Int, text: String, logprobs: JSONValue?) -> JSONValue {
        part(index, delta: isChat ? .object(["content": .string(text)]) : .string(text), logprobs: logprobs)
    }

    func closing(_ index: Int, finish: FinishReason) -> JSONValue {
        part(index, delta: isChat ? .object([:]) : .string(""), finish: finish)
    }

    func usagePart(_ usage: Usage) -> JSONValue {
        var members = envelope(streamObject, choices: [])
        members["usage"] = usage.json
        return .object(members)
    }

    private var streamObject: String { isChat ? "chat.completion.chunk" : "text_completion" }

    private func part(
        _ index: Int, delta: JSONValue, logprobs: JSONValue? = nil, finish: FinishReason? = nil
    ) -> JSONValue {
        let choice = choice(index, content: (isChat ? "delta" : "text", delta), logprobs: logprobs, finish: finish)
        var members = envelope(streamObject, choices: [choice])
        if hasUsage { members["usage"] = .null }
        return .object(members)
    }

    /// One answer as it is told.
    struct Answer {
        var text = ""
        var logprobs: JSONValue?
        var finish: FinishReason?
    }
}
