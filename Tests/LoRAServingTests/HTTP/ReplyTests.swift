import Foundation
import HTTPTypes
import LoRAFormats
import LoRAModel
import LoRAText
import Testing

@testable import LoRAServing

@Suite("Replies")
struct ReplyTests {
    @Test("A chat's reply")
    func chat() async throws {
        let reply = try await TestServer().run { try await $0.chat(model: "a-home") }
        #expect(reply.status == 200)
        #expect(reply.headers[.contentType] == "application/json")
        let json = reply.json
        #expect(json["id"]?.stringValue?.hasPrefix("chatcmpl-") == true)
        #expect(json["object"]?.stringValue == "chat.completion")
        #expect(json["model"]?.stringValue == "a-home")
        #expect(abs((json["created"]?.doubleValue ?? 0) - Date().timeIntervalSince1970) < 60)
        let digest = ScriptedAdapters.digest("a-home").prefix(12)
        #expect(json["system_fingerprint"]?.stringValue == "fp_0123456789ab_\(digest)")
        let choice = try #require(json["choices"]?.arrayValue?.first)
        #expect(choice["index"]?.intValue == 0)
        #expect(choice["message"]?["role"]?.stringValue == "assistant")
        #expect(choice["message"]?["content"]?.stringValue == "Héllo")
        #expect(choice["finish_reason"]?.stringValue == "stop")
        #expect(choice["logprobs"]?.isNull == true)
        let prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n".replacing(/<.*?>/, with: "x").count
        #expect(
            json["usage"]?.serialized()
                == #"{"prompt_tokens":\#(prompt),"completion_tokens":3,"total_tokens":\#(prompt + 3),"#
                + #""prompt_tokens_details":{"cached_tokens":3}}"#)
    }

    @Test("A completion's reply, with several prompts and answers")
    func completions() async throws {
        var server = TestServer()
        server.engine = ScriptedEngine { request in
            ScriptedEngine.answer(request, ["\(request.prompt.count)", "-\(request.sampling.seed)"], finish: .length)
        }
        let reply = try await server.run { try await $0.complete(#", "n": 2, "seed": 7"#, prompt: #"["the", "x"]"#) }
        #expect(reply.json["object"]?.stringValue == "text_completion")
        #expect(reply.json["id"]?.stringValue?.hasPrefix("cmpl-") == true)
        let choices = reply.json["choices"]?.arrayValue ?? []
        #expect(choices.compactMap { $0["text"]?.stringValue } == ["2-7", "2-8", "1-7", "1-8"])
        #expect(choices.compactMap { $0["index"]?.intValue } == [0, 1, 2, 3])
        #expect(choices.compactMap { $0["finish_reason"]?.stringValue } == Array(repeating: "length", count: 4))
        // A prompt counts once, each answer for itself.
        #expect(reply.json["usage"]?["prompt_tokens"]?.intValue == 3)
        #expect(reply.json["usage"]?["completion_tokens"]?.intValue == 12)
        #expect(reply.json["usage"]?["prompt_tokens_details"]?["cached_tokens"]?.intValue == 6)
    }

    @Test(
        "Prompts come in four forms",
        arguments: [
            (#""the""#, [[259, 104]]), (#"["the", "x"]"#, [[259, 104], [123]]), ("[5, 6]", [[5, 6]]),
            ("[[5], [6, 7]]", [[5], [6, 7]]), (#""""#, [[1]]),
        ] as [(String, [[Int32]])])
    func prompts(prompt: String, ids: [[Int32]]) async throws {
        let server = TestServer()
        let reply = try await server.run { try await $0.complete(prompt: prompt) }
        #expect(reply.status == 200)
        #expect(server.engine.requests.map(\.prompt) == ids)
    }

    @Test(
        "Prompts that are none",
        arguments: [
            "[]", "[[]]", "[5, \"x\"]", "[\"x\", 5]", "[260]", "[-1]", "[5.5]", "{}", "null", "true", "[[5], \"x\"]",
            "[[5.5]]", "[null]",
        ])
    func badPrompts(prompt: String) async throws {
        let reply = try await TestServer().run { try await $0.complete(prompt: prompt) }
        #expect(reply.status == 400)
        #expect(reply.error?["param"]?.stringValue == "prompt")
    }

    @Test(
        "Contents come as text or as text parts; developers are the system",
        arguments: [
            (
                #"{"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}"#,
                "user\nhi"
            ),
            (#"{"role": "developer", "content": "hi"}"#, "system\nhi"),
            (#"{"role": "assistant", "content": "hi", "refusal": null, "tool_calls": []}"#, "assistant\nhi"),
        ])
    func messages(message: String, text: String) async throws {
        let server = TestServer()
        let reply = try await server.run {
            try await $0.send(.post, "/v1/chat/completions", body: #"{"model": "tiny", "messages": [\#(message)]}"#)
        }
        #expect(reply.status == 200)
        let prompt = try TinyTokenizer.make().decode(server.engine.requests[0].prompt, skippingSpecial: false)
        #expect(prompt.hasPrefix("<|im_start|>\(text)<|im_end|>"))
    }

    @Test(
        "Messages that are refused",
        arguments: [
            ("", "messages"), (#"{"role": "user"}"#, "messages[0].content"), (#"{"content": "x"}"#, "messages[0].role"),
            (#"{"role": "robot", "content": "x"}"#, "messages[0].role"), ("5", "messages[0]"),
            (#"{"role": "user", "content": 5}"#, "messages[0].content"),
            (#"{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}"#, "messages[0].content[0]"),
            (#"{"role": "user", "content": [{"type": "text"}]}"#, "messages[0].content[0].text"),
            (#"{"role": "assistant", "content": "x", "tool_calls": [{}]}"#, "messages[0].tool_calls"),
            (#"{"role": "tool", "content": "x"}"#, "messages"),
        ])
    func badMessages(message: String, param: String) async throws {
        let reply = try await TestServer().run {
            try await $0.send(.post, "/v1/chat/completions", body: #"{"model": "tiny", "messages": [\#(message)]}"#)
        }
        #expect(reply.status == 400)
        #expect(reply.error?["param"]?.stringValue == param)
    }

    @Test("Prompt and answer must fit the context")
    func context() async throws {
        try await TestServer().run { client in
            let fits = try await client.complete(#", "max_tokens": 250"#, prompt: "[3, 4, 5, 6, 7, 8]")
            #expect(fits.status == 200)
            let beyond = try await client.complete(#", "max_tokens": 251"#, prompt: "[3, 4, 5, 6, 7, 8]")
            #expect(beyond.status == 400)
            #expect(beyond.error?["code"]?.stringValue == "context_length_exceeded")
            let long = try await client.complete(prompt: "\(Array(repeating: 5, count: 256))")
            #expect(long.error?["code"]?.stringValue == "context_length_exceeded")
            // Without a number the answer gets what is left.
            let rest = try await client.complete(prompt: "\(Array(repeating: 5, count: 255))")
            #expect(rest.status == 200)
        }
    }

    @Test("A base without a template has no chats")
    func noTemplate() async throws {
        var server = TestServer()
        server.hasTemplate = false
        let reply = try await server.run { try await $0.chat() }
        #expect(reply.status == 400)
        #expect(reply.error?["code"]?.stringValue == "no_chat_template")
    }

    // MARK: Log-probabilities

    @Test("A chat's log-probabilities: the tokens put together are the text")
    func chatLogprobs() async throws {
        let reply = try await TestServer().run { try await $0.chat(#", "logprobs": true, "top_logprobs": 2"#) }
        let content = reply.json["choices"]?.arrayValue?.first?["logprobs"]?["content"]?.arrayValue ?? []
        #expect(content.compactMap { $0["token"]?.stringValue }.joined() == "Héllo")
        #expect(
            content.first?.serialized()
                == #"{"token":"Hé","logprob":-0.25,"bytes":[72,195,169],"top_logprobs":["#
                + #"{"token":"Hé","logprob":-0.25,"bytes":[72,195,169]},"#
                + "{\"token\":\"\u{FFFD}\",\"logprob\":-9999.0,\"bytes\":[195,1]}]}")
        let plain = try await TestServer().run { try await $0.chat(#", "logprobs": true"#) }
        #expect(
            plain.json["choices"]?.arrayValue?.first?["logprobs"]?["content"]?.arrayValue?.first?["top_logprobs"]
                == .array([]))
    }

    @Test("A completion's log-probabilities, with the prompt's")
    func completionLogprobs() async throws {
        let server = TestServer()
        let reply = try await server.run {
            try await $0.complete(#", "logprobs": 2, "echo": true, "max_tokens": 0"#, prompt: "[5, 6]")
        }
        #expect(reply.status == 200)
        #expect(server.engine.requests.first?.maximumTokens == 0)
        #expect(server.engine.requests.first?.scoresPrompt == true)
        let logprobs = try #require(reply.json["choices"]?.arrayValue?.first?["logprobs"])
        #expect(logprobs["tokens"]?.serialized() == #"["<5>","<6>","Hé","llo"]"#)
        #expect(logprobs["token_logprobs"]?.serialized() == "[null,-2.0,-0.25,-0.25]")
        #expect(logprobs["text_offset"]?.serialized() == "[0,3,6,8]")
        let top = logprobs["top_logprobs"]?.arrayValue ?? []
        #expect(top.first == .null)
        #expect(top.last?.serialized() == #"{"llo":-0.25,"bytes:\\xc3\\x01":-9999.0}"#)
    }

    @Test("Without echo the prompt is not scored")
    func noEcho() async throws {
        let server = TestServer()
        let reply = try await server.run { try await $0.complete(#", "logprobs": 0"#) }
        #expect(server.engine.requests.first?.scoresPrompt == false)
        #expect(
            reply.json["choices"]?.arrayValue?.first?["logprobs"]?["tokens"]?.serialized() == #"["Hé","llo"]"#)
    }

    @Test("Echo puts the prompt before the answer", arguments: [false, true])
    func echo(streams: Bool) async throws {
        let reply = try await TestServer().run { try await $0.complete(#", "echo": true, "stream": \#(streams)"#) }
        let parts = streams ? try reply.events.dropLast().map { try JSONValue(parsing: $0) } : [reply.json]
        let text = parts.compactMap { $0["choices"]?.arrayValue?.first?["text"]?.stringValue }.joined()
        #expect(text == "theHéllo")
    }
}
