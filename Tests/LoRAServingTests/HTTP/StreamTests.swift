import HTTPTypes
import LoRAFormats
import LoRAModel
import Testing

@testable import LoRAServing

@Suite("Streams")
struct StreamTests {
    private func parts(_ reply: TestClient.Reply) throws -> [JSONValue] {
        #expect(reply.events.last == "[DONE]")
        return try reply.events.dropLast().map { try JSONValue(parsing: $0) }
    }

    @Test("A chat's stream: the role once, the text, the end, the usage, and that is all")
    func chat() async throws {
        let reply = try await TestServer().run {
            try await $0.chat(#", "stream": true, "stream_options": {"include_usage": true}"#)
        }
        #expect(reply.status == 200)
        #expect(reply.headers[.contentType] == "text/event-stream")
        let parts = try parts(reply)
        #expect(Set(parts.compactMap { $0["id"]?.stringValue }).count == 1)
        #expect(Set(parts.compactMap { $0["object"]?.stringValue }) == ["chat.completion.chunk"])
        #expect(Set(parts.compactMap { $0["system_fingerprint"]?.stringValue }) == ["fp_0123456789ab"])
        #expect(parts.count == 5)
        let choices = parts.compactMap { $0["choices"]?.arrayValue?.first }
        #expect(
            choices.map { $0["delta"]?.serialized() } == [
                #"{"role":"assistant","content":""}"#, #"{"content":"Hé"}"#, #"{"content":"llo"}"#, "{}",
            ])
        #expect(choices.map { $0["finish_reason"] ?? .null } == [.null, .null, .null, .string("stop")])
        #expect(parts.dropLast().allSatisfy { $0["usage"] == .null })
        #expect(parts.last?["choices"] == .array([]))
        #expect(parts.last?["usage"]?["completion_tokens"]?.intValue == 3)
    }

    @Test("Without the option no usage is told")
    func noUsage() async throws {
        let reply = try await TestServer().run { try await $0.chat(#", "stream": true"#) }
        #expect(try parts(reply).allSatisfy { $0["usage"] == nil })
        #expect(reply.events.count == 5)
    }

    @Test("A completion's stream, with log-probabilities")
    func completion() async throws {
        let reply = try await TestServer().run {
            try await $0.complete(#", "stream": true, "logprobs": 1, "echo": true"#, prompt: "[5, 6]")
        }
        let choices = try parts(reply).compactMap { $0["choices"]?.arrayValue?.first }
        #expect(choices.compactMap { $0["text"]?.stringValue } == ["\u{2}\u{3}", "Hé", "llo", ""])
        let offsets = choices.compactMap { $0["logprobs"]?["text_offset"]?.serialized() }
        #expect(offsets == ["[0,3]", "[6]", "[8]"])
        #expect(choices.last?["finish_reason"]?.stringValue == "stop")
    }

    @Test("Several answers come side by side, each complete")
    func severalAnswers() async throws {
        var server = TestServer()
        server.engine = ScriptedEngine { request in
            ScriptedEngine.answer(request, ["s", "\(request.sampling.seed)"])
        }
        let reply = try await server.run { try await $0.chat(#", "stream": true, "n": 3, "seed": 4"#) }
        let choices = try parts(reply).compactMap { $0["choices"]?.arrayValue?.first }
        for index in 0..<3 {
            let own = choices.filter { $0["index"]?.intValue == index }
            #expect(own.compactMap { $0["delta"]?["role"]?.stringValue } == ["assistant"])
            #expect(own.compactMap { $0["delta"]?["content"]?.stringValue }.joined() == "s\(index + 4)")
            #expect(own.last?["finish_reason"]?.stringValue == "stop")
            #expect(own.count == 4)
        }
    }

    @Test("An answer that breaks off says so, and is not done")
    func brokenOff() async throws {
        var server = TestServer()
        server.engine = ScriptedEngine { request in Array(ScriptedEngine.answer(request, ["a", "b"]).dropLast()) }
        let reply = try await server.run { try await $0.chat(#", "stream": true"#) }
        let last = try JSONValue(parsing: try #require(reply.events.last))
        #expect(last["error"]?["code"]?.stringValue == "draining")
        let whole = try await server.run { try await $0.chat() }
        #expect(whole.status == 503)
    }
}
