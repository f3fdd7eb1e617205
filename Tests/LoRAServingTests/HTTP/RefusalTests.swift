import HTTPTypes
import LoRAFormats
import Metrics
import Testing

@testable import LoRAServing

@Suite("Refusals and state")
struct RefusalTests {
    @Test(
        "What the engine refuses",
        arguments: [
            (InferenceEngine.Refusal.queueFull(retryAfter: 9), 429, "queue_full", "9"),
            (.draining, 503, "draining", "1"), (.failed("the base changed"), 500, "internal_error", nil),
        ] as [(InferenceEngine.Refusal, Int, String, String?)])
    func engine(refusal: InferenceEngine.Refusal, status: Int, code: String, retryAfter: String?) async throws {
        var server = TestServer()
        server.engine = ScriptedEngine { _ throws(InferenceEngine.Refusal) in throw refusal }
        try await server.run { client in
            for more in ["", #", "stream": true"#] {
                let reply = try await client.chat(more)
                #expect(reply.status == status)
                #expect(reply.error?["code"]?.stringValue == code)
                #expect(reply.headers[.retryAfter] == retryAfter)
                #expect(!reply.text.contains("the base changed"))
            }
        }
    }

    @Test("What cannot compute any more is neither alive nor ready")
    func failed() async throws {
        var server = TestServer()
        server.engine = ScriptedEngine(failure: "the base's file changed")
        try await server.run { client in
            for path in ["/health", "/ready"] {
                let reply = try await client.send(.get, path)
                #expect(reply.status == 503)
                #expect(reply.error?["code"]?.stringValue == "engine_failed")
            }
        }
    }

    @Test("What cannot compute any more ends the server, with the reason")
    func ended() async throws {
        let error = try await #require(throws: FormatError.self) {
            try await EngineWatch(engine: ScriptedEngine(failure: "the base's file changed")).run()
        }
        #expect(error.message.contains("the base's file changed"))
    }

    @Test("A key's limit")
    func limit() async throws {
        let keys = [
            "secret": AccessKey(
                id: "exhausted", isAdmin: false, adapters: [], limits: .init(concurrentRequests: 0))
        ]
        var server = TestServer()
        server.access = AccessControl(keys: keys)
        let reply = try await server.run { try await $0.chat(key: "secret") }
        #expect(reply.status == 429)
        #expect(reply.headers[.retryAfter].flatMap { Int($0) } ?? 0 > 0)
        #expect(reply.error?["type"]?.stringValue == "rate_limit_error")
        #expect(server.engine.requests.isEmpty)
    }

    @Test("Whatever becomes of a request, its place under the key's limit is free again")
    func admission() async throws {
        let keys = ["secret": AccessKey(id: "one", adapters: ["*"], limits: .init(concurrentRequests: 1))]
        var server = TestServer()
        server.access = AccessControl(keys: keys)
        try await server.run { client in
            for (more, model, status) in [
                ("", "tiny", 200), (#", "stream": true"#, "tiny", 200), ("", "missing", 404), ("", "broken", 503),
                (#", "max_tokens": 9999"#, "tiny", 400), ("", "tiny", 200),
            ] {
                let reply = try await client.chat(more, model: model, key: "secret")
                #expect(reply.status == status, "\(model) \(more)")
            }
        }
    }

    @Test("An adapter that cannot be loaded is not available, for a reason that names no place")
    func unusable() async throws {
        let reply = try await TestServer().run { try await $0.chat(model: "broken", key: "secret-admin") }
        #expect(reply.status == 503)
        #expect(reply.error?["code"]?.stringValue == "adapter_unusable")
    }

    @Test("While it drains the server is alive and not ready")
    func draining() async throws {
        try await TestServer().run { client in
            client.serving.beginDraining()
            let health = try await client.send(.get, "/health")
            let ready = try await client.send(.get, "/ready")
            #expect(health.status == 200)
            #expect(ready.status == 503)
            #expect(ready.headers[.retryAfter] == "1")
        }
    }

    @Test(
        "Adapters are loaded and unloaded as vLLM has it",
        arguments: [
            ("load", #"{"lora_name": "c", "lora_path": "c.lora"}"#, 200, nil),
            ("load", #"{"lora_name": "a-home", "lora_path": "c.lora"}"#, 400, "already_loaded"),
            ("load", #"{"lora_name": "a-home", "lora_path": "c.lora", "load_inplace": true}"#, 200, nil),
            ("load", #"{"lora_name": "c"}"#, 400, "missing_required_parameter"),
            ("load", #"{"lora_path": "c.lora"}"#, 400, "missing_required_parameter"),
            ("load", #"{"lora_name": "c", "lora_path": "/etc/passwd"}"#, 400, "bad_path"),
            ("load", #"{"lora_name": "c", "lora_path": "broken.lora"}"#, 400, "adapter_unusable"),
            ("load", #"{"lora_name": "tiny", "lora_path": "c.lora"}"#, 400, "already_loaded"),
            ("load", #"{"lora_name": "c", "lora_path": "c.lora", "x": 1}"#, 400, "unknown_parameter"),
            ("unload", #"{"lora_name": "a-home"}"#, 200, nil),
            ("unload", #"{"lora_name": "c"}"#, 404, "model_not_found"),
            ("unload", "{}", 400, "missing_required_parameter"),
        ] as [(String, String, Int, String?)])
    func loading(action: String, body: String, status: Int, code: String?) async throws {
        let server = TestServer()
        let reply = try await server.run {
            try await $0.send(.post, "/v1/\(action)_lora_adapter", key: "secret-admin", body: body)
        }
        #expect(reply.status == status)
        if let code {
            #expect(reply.error?["code"]?.stringValue == code)
        } else {
            #expect(reply.headers[.contentType]?.hasPrefix("text/plain") == true)
            #expect(server.adapters.calls.count == 1)
        }
    }

    @Test(
        "What is not there is named, and so is the field that named it",
        arguments: [
            ("load", #"{"lora_name": "c", "lora_path": "missing.lora"}"#, "lora_path", "no file 'missing.lora'"),
            ("unload", #"{"lora_name": "c"}"#, "lora_name", "no adapter 'c'"),
        ])
    func missing(action: String, body: String, param: String, words: String) async throws {
        let reply = try await TestServer().run {
            try await $0.send(.post, "/v1/\(action)_lora_adapter", key: "secret-admin", body: body)
        }
        #expect(reply.status == 404)
        #expect(reply.error?["param"]?.stringValue == param)
        #expect(reply.error?["message"]?.stringValue?.contains(words) == true)
    }

    @Test("The table of adapters")
    func table() async throws {
        try await TestServer().run { client in
            _ = try await client.chat(model: "a-office")
            let rows = try await client.send(.get, "/lora-adapters", key: "secret-admin").json.arrayValue ?? []
            #expect(rows.compactMap { $0["id"]?.intValue } == [0, 1, 2, 3, 4])
            let names = TestServer.names + ["b-rejected"]
            #expect(rows.compactMap { $0["name"]?.stringValue } == names)
            #expect(rows.compactMap { $0["path"]?.stringValue } == names.map { $0 + ".lora" })
            #expect(rows.compactMap { $0["scale"]?.doubleValue } == [1, 1, 1, 1, 0])
            #expect(rows.last?["failure"]?.stringValue == "the ZIP directory is cut short")
            #expect(rows.compactMap { $0["requests"]?.intValue } == [0, 1, 0, 0])
            #expect(rows.first?["version"]?.stringValue == String(ScriptedAdapters.digest("a-home").prefix(12)))
        }
    }

    @Test("The log tells of requests, never of what they say")
    func log() async throws {
        let server = TestServer()
        try await server.run { client in
            _ = try await client.chat(#", "stop": "zebra", "user": "giraffe""#, model: "a-home")
            _ = try await client.complete(#", "stream": true"#, prompt: #""elephant""#)
            _ = try await client.send(.post, "/v1/completions", body: #"{"model": "tiny", "prompt": "lion", "n": 0}"#)
            _ = try await client.send(.post, "/v1/completions", body: "tiger")
        }
        let lines = try server.log.all.map { try JSONValue(parsing: $0) }
        let done = lines.filter { $0["message"]?.stringValue == "completed" }
        #expect(done.count == 2)
        #expect(done.first?["key"]?.stringValue == "tenant-a")
        #expect(done.first?["adapter"]?.stringValue == "a-home")
        #expect(done.first?["version"]?.stringValue == String(ScriptedAdapters.digest("a-home").prefix(12)))
        #expect(done.first?["completion_tokens"]?.intValue == 3)
        #expect(done.first?["seconds"]?.doubleValue != nil)
        let secrets = ["zebra", "giraffe", "elephant", "lion", "tiger", "secret", "hi\"", "llo"]
        for line in server.log.all { #expect(!secrets.contains { line.contains($0) }, "\(line)") }
    }

    @Test("Prometheus' text")
    func exposition() {
        let exporter = PrometheusExporter()
        let swaps = Counter(label: "swaps.total", dimensions: [("name", "a\"b\\c\nd")], factory: exporter)
        swaps.increment(by: 2)
        Counter(label: "swaps.total", dimensions: [("name", "a\"b\\c\nd")], factory: exporter).increment()
        Gauge(label: "bytes", factory: exporter).record(1.5)
        let timer = Timer(label: "load_seconds", factory: exporter)
        for nanoseconds in [500_000, 2_000_000_000, 1_000_000_000_000] { timer.recordNanoseconds(Int64(nanoseconds)) }
        let text = exporter.text(help: ["bytes": "Memory."])
        #expect(text.hasPrefix("# HELP bytes Memory.\n# TYPE bytes gauge\nbytes 1.5\n# TYPE load_seconds histogram\n"))
        #expect(text.contains("load_seconds_bucket{le=\"0.001\"} 1\n"))
        #expect(text.contains("load_seconds_bucket{le=\"2.5\"} 2\n"))
        #expect(text.contains("load_seconds_bucket{le=\"+Inf\"} 3\nload_seconds_sum 1002.0005\nload_seconds_count 3\n"))
        #expect(text.hasSuffix("# TYPE swaps_total counter\nswaps_total{name=\"a\\\"b\\\\c\\nd\"} 3\n"))
    }
}
