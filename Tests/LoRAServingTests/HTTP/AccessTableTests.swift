import HTTPTypes
import LoRAFormats
import Testing

@testable import LoRAServing

@Suite("Routes by kind of key")
struct AccessTableTests {
    /// Who asks.
    enum Caller: String, CaseIterable {
        case none, wrong, tenantA, tenantB, admin

        var key: String? {
            switch self {
            case .none: nil
            case .wrong: "secret-c"
            case .tenantA: "secret-a"
            case .tenantB: "secret-b"
            case .admin: "secret-admin"
            }
        }
    }

    struct Route: CustomStringConvertible {
        let method: HTTPRequest.Method
        let path: String
        var body: String?
        /// Of each kind of caller, in the order of `Caller.allCases`.
        let statuses: [Int]

        var description: String { "\(method) \(path) \(body ?? "")" }
    }

    private static func chat(_ model: String) -> String {
        #"{"model": "\#(model)", "messages": [{"role": "user", "content": "hi"}]}"#
    }

    static let routes: [Route] = [
        Route(method: .get, path: "/", statuses: [200, 200, 200, 200, 200]),
        Route(method: .get, path: "/health", statuses: [200, 200, 200, 200, 200]),
        Route(method: .get, path: "/ready", statuses: [200, 200, 200, 200, 200]),
        Route(method: .get, path: "/metrics", statuses: [401, 401, 403, 403, 200]),
        Route(method: .get, path: "/lora-adapters", statuses: [401, 401, 403, 403, 200]),
        Route(method: .get, path: "/v1/models", statuses: [401, 401, 200, 200, 200]),
        Route(method: .get, path: "/v1/models/tiny", statuses: [401, 401, 200, 403, 200]),
        Route(method: .get, path: "/v1/models/a-home", statuses: [401, 401, 200, 403, 200]),
        Route(method: .get, path: "/v1/models/b-private", statuses: [401, 401, 403, 200, 200]),
        Route(method: .get, path: "/v1/models/b-missing", statuses: [401, 401, 403, 404, 404]),
        Route(method: .get, path: "/v1/models/b%2Dprivate", statuses: [401, 401, 403, 200, 200]),
        Route(
            method: .post, path: "/v1/chat/completions", body: chat("tiny"), statuses: [401, 401, 200, 403, 200]),
        Route(
            method: .post, path: "/v1/chat/completions", body: chat("a-home"), statuses: [401, 401, 200, 403, 200]),
        Route(
            method: .post, path: "/v1/chat/completions", body: chat("b-private"),
            statuses: [401, 401, 403, 200, 200]),
        Route(
            method: .post, path: "/v1/chat/completions", body: chat("b-missing"),
            statuses: [401, 401, 403, 404, 404]),
        Route(
            method: .post, path: "/v1/completions", body: #"{"model": "b-private", "prompt": "x"}"#,
            statuses: [401, 401, 403, 200, 200]),
        Route(
            method: .post, path: "/v1/load_lora_adapter",
            body: #"{"lora_name": "b-new", "lora_path": "b-new.lora"}"#, statuses: [401, 401, 403, 403, 200]),
        Route(
            method: .post, path: "/v1/unload_lora_adapter", body: #"{"lora_name": "b-private"}"#,
            statuses: [401, 401, 403, 403, 200]),
        Route(method: .post, path: "/v1/embeddings", body: "{}", statuses: [404, 404, 404, 404, 404]),
        Route(method: .get, path: "/v1/models/", statuses: [404, 404, 404, 404, 404]),
        Route(method: .get, path: "/v1/chat/completions", statuses: [405, 405, 405, 405, 405]),
        Route(method: .delete, path: "/v1/models", statuses: [405, 405, 405, 405, 405]),
    ]

    @Test("Every route answers each kind of key as the table says, and shows nothing of other keys", arguments: routes)
    func table(_ route: Route) async throws {
        #expect(route.statuses.count == Caller.allCases.count)
        for (caller, status) in zip(Caller.allCases, route.statuses) {
            let server = TestServer()
            let reply = try await server.run {
                try await $0.send(route.method, route.path, key: caller.key, body: route.body)
            }
            #expect(reply.status == status, "\(caller)")
            #expect(reply.headers[.requestID] != nil)
            if status >= 400 {
                #expect(reply.error?["message"]?.stringValue?.isEmpty == false, "\(caller)")
                #expect(reply.error?["type"]?.stringValue?.isEmpty == false, "\(caller)")
            }
            // The request's own words may come back; nothing else of b's may reach anyone but b and the administrator.
            if ![.tenantB, .admin].contains(caller) {
                let text = reply.text.replacing("b-private", with: "", maxReplacements: named(route) ? 1 : 0)
                #expect(!text.contains("b-private"), "\(caller)")
                #expect(!server.adapters.calls.contains { $0.contains("b-") }, "the store was asked for \(caller)")
                #expect(!reply.headers.contains { $0.value.contains("b-private") }, "\(caller)")
            }
        }
    }

    private func named(_ route: Route) -> Bool {
        route.path.contains("private") || route.body?.contains("b-private") == true
    }

    @Test("What exists and what does not is refused in the same words")
    func sameWords() async throws {
        try await TestServer().run { client in
            let there = try await client.chat(model: "b-private")
            let missing = try await client.chat(model: "b-missing")
            #expect(there.status == 403)
            #expect(there.text.replacing("b-private", with: "x") == missing.text.replacing("b-missing", with: "x"))
        }
    }

    @Test(
        "Lists hold the models of each key",
        arguments: [
            ("secret-a", ["tiny", "a-home", "a-office"]), ("secret-b", ["b-private"]),
            ("secret-admin", ["tiny", "a-home", "a-office", "b-private", "broken"]),
        ])
    func lists(key: String, models: [String]) async throws {
        try await TestServer().run { client in
            let reply = try await client.send(.get, "/v1/models", key: key)
            #expect(reply.json["object"]?.stringValue == "list")
            #expect(reply.json["data"]?.arrayValue?.compactMap { $0["id"]?.stringValue } == models)
            for model in reply.json["data"]?.arrayValue ?? [] {
                let isBase = model["id"]?.stringValue == "tiny"
                #expect(model["parent"] == (isBase ? .null : .string("tiny")))
                #expect(model["object"]?.stringValue == "model")
                #expect(model["created"]?.intValue == (isBase ? 1_600_000_000 : 1_700_000_000))
            }
        }
    }

    @Test("An adapter of the base's name is not listed beside the base, whose name chooses the base")
    func baseName() async throws {
        var server = TestServer()
        server.adapters = ScriptedAdapters(["a-home", "tiny"])
        try await server.run { client in
            let list = try await client.send(.get, "/v1/models", key: "secret-admin").json
            #expect(list["data"]?.arrayValue?.compactMap { $0["id"]?.stringValue } == ["tiny", "a-home"])
            #expect(try await client.chat(key: "secret-admin").status == 200)
        }
        #expect(server.engine.requests.map { $0.adapter == nil } == [true])
    }

    @Test(
        "Without keys everything is answered but what changes the server",
        arguments: [
            ("GET", "/v1/models", 200), ("GET", "/metrics", 200), ("GET", "/lora-adapters", 200),
            ("POST", "/v1/load_lora_adapter", 403), ("POST", "/v1/unload_lora_adapter", 403),
        ])
    func open(method: String, path: String, status: Int) async throws {
        var server = TestServer()
        server.access = nil
        try await server.run { client in
            let method = try #require(HTTPRequest.Method(method))
            let body = method == .post ? #"{"lora_name": "a-home"}"# : nil
            #expect(try await client.send(method, path, key: nil, body: body).status == status)
            #expect(try await client.chat(key: nil).status == 200)
            #expect(try await client.chat(model: "b-private", key: "whatever").status == 200)
        }
        #expect(!server.adapters.calls.contains { $0.hasPrefix("load") || $0.hasPrefix("unload") })
    }

    @Test("Pages of other sites get no answer")
    func origins() async throws {
        try await TestServer().run { client in
            let other = try await client.send(.get, "/v1/models", headers: [.origin: "https://evil.example"])
            #expect(other.status == 403)
            #expect(other.error?["code"]?.stringValue == "cross_origin")
            #expect(try await client.send(.get, "/v1/models", headers: [.origin: "http://localhost"]).status == 200)
        }
    }

    @Test("The metrics name adapters of running requests only while they are published")
    func metrics() async throws {
        var load = InferenceEngine.Load()
        (load.running, load.waiting, load.pauses) = (2, 1, 5)
        load.runningAdapters = ["b-private", "gone", "a-home"]
        load.waitingAdapters = ["gone"]
        var server = TestServer()
        server.engine = ScriptedEngine(load: load)
        try await server.run { client in
            _ = try await client.chat()
            let text = try await client.send(.get, "/metrics", key: "secret-admin").text
            #expect(text.contains("vllm:num_requests_running 2\n"))
            #expect(text.contains("vllm:num_requests_waiting 1\n"))
            #expect(text.contains("# TYPE vllm:num_preemptions_total counter\nvllm:num_preemptions_total 5\n"))
            #expect(
                text.contains(
                    #"{max_lora="16",running_lora_adapters="a-home,b-private",waiting_lora_adapters=""} "#))
            #expect(text.contains("vllm:generation_tokens_total 3\n"))
            #expect(text.contains("vllm:time_to_first_token_seconds_count 1\n"))
            #expect(text.contains("vllm:inter_token_latency_seconds_count 1\n"))
            #expect(text.contains("vllm:e2e_request_latency_seconds_bucket{le=\"+Inf\"} 1\n"))
            #expect(!text.contains("gone"))
        }
    }
}
