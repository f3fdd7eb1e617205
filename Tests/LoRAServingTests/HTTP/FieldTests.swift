import HTTPTypes
import LoRAFormats
import LoRAModel
import LoRAText
import Testing

@testable import LoRAServing

/// Members of a request that are refused, and how.
struct Wrong: CustomStringConvertible {
    let members: String
    let param: String?
    var code: String?

    init(_ members: String, _ param: String?, _ code: String? = nil) {
        self.members = members
        self.param = param
        self.code = code
    }

    var description: String { members }
}

@Suite("Fields of requests")
struct FieldTests {
    static let refusedByBoth: [Wrong] = [
        Wrong(#""temperature": 2.1"#, "temperature", "value_out_of_range"),
        Wrong(#""temperature": -0.1"#, "temperature"), Wrong(#""temperature": "1""#, "temperature", "invalid_type"),
        Wrong(#""temperature": true"#, "temperature"),
        Wrong(#""top_p": 0"#, "top_p"), Wrong(#""top_p": 1.01"#, "top_p"),
        Wrong(#""top_k": -2"#, "top_k"), Wrong(#""top_k": 1.5"#, "top_k"),
        Wrong(#""min_p": -1"#, "min_p"), Wrong(#""min_p": 2"#, "min_p"),
        Wrong(#""n": 0"#, "n"), Wrong(#""n": 17"#, "n"), Wrong(#""n": 1e99"#, "n"),
        Wrong(#""max_tokens": -1"#, "max_tokens"), Wrong(#""max_tokens": 0"#, "max_tokens"),
        Wrong(#""max_tokens": 257"#, nil, "context_length_exceeded"),
        Wrong(#""max_tokens": 9223372036854775807"#, "max_tokens"),
        Wrong(#""frequency_penalty": 2.5"#, "frequency_penalty"), Wrong(#""presence_penalty": -3"#, "presence_penalty"),
        Wrong(#""seed": 1.5"#, "seed"), Wrong(#""seed": 18446744073709551616"#, "seed"), Wrong(#""seed": "7""#, "seed"),
        Wrong(#""stop": """#, "stop"), Wrong(#""stop": ["a", ""]"#, "stop"), Wrong(#""stop": [1]"#, "stop"),
        Wrong(
            #""stop": ["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"]"#, "stop",
            "array_above_max_length"),
        Wrong(#""logit_bias": {"x": 1}"#, "logit_bias"), Wrong(#""logit_bias": {"260": 1}"#, "logit_bias"),
        Wrong(#""logit_bias": {"-1": 1}"#, "logit_bias"), Wrong(#""logit_bias": {"5": 101}"#, "logit_bias"),
        Wrong(#""logit_bias": [1]"#, "logit_bias"),
        Wrong(#""stream": "yes""#, "stream"), Wrong(#""stream_options": {}"#, "stream_options"),
        Wrong(#""stream": true, "stream_options": {"include_usage": 1}"#, "stream_options.include_usage"),
        Wrong(#""stream": true, "stream_options": {"other": 1}"#, "stream_options.other", "unknown_parameter"),
        Wrong(#""temprature": 1"#, "temprature", "unknown_parameter"),
        Wrong(#""response_format": {"type": "json_object"}"#, "response_format", "unsupported_parameter"),
        Wrong(#""store": true"#, "store", "unsupported_parameter"),
        Wrong(#""ignore_eos": true"#, "ignore_eos", "unsupported_parameter"),
        Wrong(#""repetition_penalty": 1.1"#, "repetition_penalty", "unsupported_parameter"),
        Wrong(#""guided_json": {}"#, "guided_json", "unsupported_parameter"),
    ]

    static let refusedByChat: [Wrong] = [
        Wrong(#""tools": [{"type": "function"}]"#, "tools", "unsupported_parameter"),
        Wrong(#""functions": [{}]"#, "functions", "unsupported_parameter"),
        Wrong(#""tool_choice": "required""#, "tool_choice", "unsupported_parameter"),
        Wrong(#""audio": {}"#, "audio", "unsupported_parameter"),
        Wrong(#""modalities": ["text", "audio"]"#, "modalities", "unsupported_parameter"),
        Wrong(#""prediction": {}"#, "prediction", "unsupported_parameter"),
        Wrong(#""reasoning_effort": "high""#, "reasoning_effort", "unsupported_parameter"),
        Wrong(#""logprobs": 3"#, "logprobs", "invalid_type"), Wrong(#""top_logprobs": 3"#, "top_logprobs"),
        Wrong(#""logprobs": true, "top_logprobs": 21"#, "top_logprobs"),
        Wrong(#""max_tokens": 5, "max_completion_tokens": 6"#, "max_completion_tokens"),
        Wrong(#""prompt": "x""#, "prompt", "unknown_parameter"), Wrong(#""echo": true"#, "echo", "unknown_parameter"),
    ]

    static let refusedByCompletions: [Wrong] = [
        Wrong(#""logprobs": true"#, "logprobs", "invalid_type"), Wrong(#""logprobs": 21"#, "logprobs"),
        Wrong(#""best_of": 2"#, "best_of", "unsupported_parameter"),
        Wrong(#""suffix": "x""#, "suffix", "unsupported_parameter"),
        Wrong(#""messages": []"#, "messages", "unknown_parameter"),
        Wrong(#""echo": 1"#, "echo"),
    ]

    static let taken: [String] = [
        #""temperature": 0"#, #""temperature": 2"#, #""temperature": null"#, #""top_p": 0.01"#, #""top_k": -1"#,
        #""top_k": 0"#, #""min_p": 1"#, #""n": 16"#, #""max_tokens": 200"#, #""max_tokens": 5.0"#, #""user": "u""#,
        #""metadata": {"a": "b"}"#, #""store": false"#, #""service_tier": "auto""#, #""seed": -9223372036854775808"#,
        #""seed": 9223372036854775807"#, #""stop": "x""#, #""stop": ["a", "b", "c", "d"]"#, #""stop": null"#,
        #""logit_bias": {"5": -100, "259": 100}"#, #""frequency_penalty": -2"#, #""presence_penalty": 2"#,
        #""response_format": {"type": "text"}"#, #""repetition_penalty": 1.0"#, #""stream": false"#,
        #""guided_json": null"#,
    ]

    @Test("Both routes refuse", arguments: refusedByBoth)
    func both(_ wrong: Wrong) async throws {
        try await TestServer().run { client in
            check(wrong, try await client.chat(", " + wrong.members))
            check(wrong, try await client.complete(", " + wrong.members))
        }
    }

    @Test("Chats refuse", arguments: refusedByChat)
    func chat(_ wrong: Wrong) async throws {
        try await TestServer().run { check(wrong, try await $0.chat(", " + wrong.members)) }
    }

    @Test("Completions refuse", arguments: refusedByCompletions)
    func completions(_ wrong: Wrong) async throws {
        try await TestServer().run { check(wrong, try await $0.complete(", " + wrong.members)) }
    }

    private func check(_ wrong: Wrong, _ reply: TestClient.Reply) {
        #expect(reply.status == 400)
        #expect(reply.error?["type"]?.stringValue == "invalid_request_error")
        if let param = wrong.param {
            #expect(reply.error?["param"]?.stringValue == param)
            #expect(reply.error?["message"]?.stringValue?.contains(param) == true)
        }
        if let code = wrong.code { #expect(reply.error?["code"]?.stringValue == code) }
    }

    @Test("Both routes take", arguments: taken)
    func bothTake(_ members: String) async throws {
        try await TestServer().run { client in
            let replies = [try await client.chat(", " + members), try await client.complete(", " + members)]
            #expect(replies.map(\.status) == [200, 200])
        }
    }

    @Test(
        "Chats take what leaves tools out",
        arguments: [
            #""tools": []"#, #""tool_choice": "none""#, #""parallel_tool_calls": true"#, #""modalities": ["text"]"#,
            #""max_completion_tokens": 7"#, #""max_completion_tokens": 7, "max_tokens": 7"#,
            #""logprobs": true, "top_logprobs": 20"#, #""logprobs": false"#,
        ])
    func chatTakes(_ members: String) async throws {
        let reply = try await TestServer().run { try await $0.chat(", " + members) }
        #expect(reply.status == 200)
    }

    @Test("The engine gets what was asked for")
    func sampling() async throws {
        let server = TestServer()
        try await server.run { client in
            _ = try await client.chat(
                #"""
                , "temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.1, "seed": -1, "n": 2, "max_tokens": 9,
                "stop": ["x", "y"], "logit_bias": {"5": -2.5}, "frequency_penalty": 0.5, "presence_penalty": -0.5
                """#, model: "a-home")
        }
        #expect(server.engine.requests.map(\.sampling.seed) == [.max, 0])
        let request = try #require(server.engine.requests.first)
        #expect(request.sampling.temperature == 0.5)
        #expect(request.sampling.topP == 0.9)
        #expect(request.sampling.topK == 7)
        #expect(request.sampling.minP == 0.1)
        #expect(request.sampling.logitBias == [5: -2.5])
        #expect(request.sampling.frequencyPenalty == 0.5)
        #expect(request.sampling.presencePenalty == -0.5)
        #expect(request.maximumTokens == 9)
        #expect(request.stops == ["x", "y"])
        #expect(request.adapter?.name == "a-home")
        #expect(request.tenant == "tenant-a")
        #expect(request.alternatives == nil)
        let text = try TinyTokenizer.make().decode(request.prompt, skippingSpecial: false)
        #expect(text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")
    }

    @Test("What is left out has the interface's defaults")
    func defaults() async throws {
        let server = TestServer()
        try await server.run { client in
            _ = try await client.chat()
            _ = try await client.chat()
            _ = try await client.complete()
        }
        let requests = server.engine.requests
        #expect(requests.map(\.sampling.temperature) == [1, 1, 1])
        #expect(requests.map(\.sampling.topP) == [1, 1, 1])
        #expect(requests[0].sampling.seed != requests[1].sampling.seed)
        #expect(requests[0].maximumTokens == 256 - requests[0].prompt.count)
        #expect(requests[2].maximumTokens == 16)
    }

    @Test(
        "Bodies that are no request",
        arguments: [
            ("", nil), ("{", "invalid_json"), ("[]", nil), (#"{"model": "a", "model": "b"}"#, "invalid_json"),
            (String(repeating: "[", count: 300), "invalid_json"), ("{\"model\": \"\u{1}\"}", "invalid_json"),
            (#"{"messages": []}"#, "missing_required_parameter"), (#"{"model": ""}"#, "missing_required_parameter"),
            (#"{"model": 1}"#, "invalid_type"), (#"{"model": "\ud800"}"#, "invalid_json"),
        ] as [(String, String?)])
    func bodies(body: String, code: String?) async throws {
        try await TestServer().run { client in
            let reply = try await client.send(.post, "/v1/chat/completions", body: body)
            #expect(reply.status == 400)
            if let code { #expect(reply.error?["code"]?.stringValue == code) }
        }
    }

    @Test("A body above the limit is refused")
    func largeBody() async throws {
        var server = TestServer()
        server.limits.bodyBytes = 1000
        try await server.run { client in
            let reply = try await client.chat(#", "user": "\#(String(repeating: "x", count: 1000))""#)
            #expect(reply.status == 413)
            #expect(reply.error?["code"]?.stringValue == "body_too_large")
            #expect(reply.headers[.connection] == "close")
            #expect(try await client.chat().status == 200)
        }
    }
}
