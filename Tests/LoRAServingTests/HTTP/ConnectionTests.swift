import Hummingbird
import HummingbirdCore
import HummingbirdTesting
import LoRAFormats
import Testing

@testable import LoRAServing

@Suite("Connections", .serialized)
struct ConnectionTests {
    /// Runs `test` against the server on a port of loopback.
    private func serve(
        _ server: TestServer = TestServer(), _ test: @Sendable (Int, ServingContext) async throws -> Void
    ) async throws {
        var server = server
        server.access = nil
        let context = try server.context()
        let listener = try Listener(InferenceServer.Options(base: "", adapters: ""))
        let application = Application(
            responder: APIResponder(serving: context), server: try listener.builder(connections: context.connections))
        try await application.test(.live) { client in try await test(try #require(client.port), context) }
    }

    /// Waits, half a minute at most, for what another thread brings about.
    private func eventually(_ condition: () -> Bool) async throws {
        for _ in 0..<3000 where !condition() { try await Task.sleep(for: .milliseconds(10)) }
        #expect(condition())
    }

    private static let chat = #"{"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "stream": true}"#
    private static let whole = #"{"model": "tiny", "prompt": "x"}"#

    @Test(
        "What is no HTTP gets the error object",
        arguments: [
            ("\u{1}\u{2}\u{3}\r\n\r\n", "400", "invalid_http"), ("GET\r\n\r\n", "400", "invalid_http"),
            ("GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", "400", "invalid_http"),
            ("GET / HTTP/1.1\r\nX: \(String(repeating: "x", count: 40_000))\r\n\r\n", "431", "headers_too_large"),
            ("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", "400", "invalid_http"),
        ])
    func noHTTP(text: String, status: String, code: String) async throws {
        try await serve { port, _ in
            let client = try RawClient(port: port)
            client.send(text)
            let reply = await client.read()
            #expect(reply.hasPrefix("HTTP/1.1 \(status) "))
            #expect(reply.contains(#""code":"\#(code)""#))
            #expect(reply.contains(#""type":"invalid_request_error""#))
        }
    }

    @Test("One connection carries one request after another")
    func keepAlive() async throws {
        try await serve { port, _ in
            let client = try RawClient(port: port)
            client.post("/v1/completions", Self.whole)
            let first = await client.read(until: "\"total_tokens\"")
            client.get("/health")
            let second = await client.read(until: "}")
            client.post("/v1/chat/completions", Self.chat)
            let third = await client.read(until: "[DONE]")
            #expect(first.hasPrefix("HTTP/1.1 200"))
            #expect(second.contains("HTTP/1.1 200"))
            #expect(third.contains("text/event-stream"))
        }
    }

    @Test("A client that goes away takes its request with it", arguments: [true, false])
    func leaving(streams: Bool) async throws {
        var server = TestServer()
        server.engine = ScriptedEngine(neverEnds: true) { request in
            Array(ScriptedEngine.answer(request, ["a"]).dropLast())
        }
        let engine = server.engine
        try await serve(server) { port, context in
            let client = try RawClient(port: port)
            if streams {
                client.post("/v1/chat/completions", Self.chat)
                #expect(await client.read(until: "\"a\"").contains("data: "))
            } else {
                client.post("/v1/completions", Self.whole)
                try await eventually { engine.requests.count == 1 }
            }
            #expect(engine.ended == 0)
            client.leave()
            try await eventually { engine.ended == 1 }
        }
        let done = server.log.all.filter { $0.contains("\"message\":\"cancelled\"") }
        #expect(done.count == 1)
    }

    @Test("More connections than are allowed are told to come back")
    func tooMany() async throws {
        var server = TestServer()
        // The test framework's own client has one.
        server.limits.connections = 3
        try await serve(server) { port, context in
            let clients = [try RawClient(port: port), try RawClient(port: port)]
            for client in clients {
                client.get("/health")
                #expect(await client.read(until: "}").hasPrefix("HTTP/1.1 200"))
            }
            let refused = try RawClient(port: port)
            refused.get("/health")
            let reply = await refused.read()
            #expect(reply.hasPrefix("HTTP/1.1 503"))
            #expect(reply.lowercased().contains("retry-after: 1"))
            #expect(reply.contains("too_many_connections"))
            clients[0].leave()
            try await eventually { context.connections.count < 3 }
            let next = try RawClient(port: port)
            next.get("/health")
            #expect(await next.read(until: "}").hasPrefix("HTTP/1.1 200"))
        }
    }

    @Test("Who dawdles is cut off", arguments: ["", "GET /health HT", "POST /v1/completions HTTP/1.1\r\n"])
    func dawdling(beginning: String) async throws {
        var server = TestServer()
        server.limits.idleTimeout = .milliseconds(300)
        try await serve(server) { port, _ in
            let client = try RawClient(port: port)
            client.send(beginning)
            #expect(await client.read() == "")
        }
    }

    @Test("A body that does not come is not waited for")
    func noBody() async throws {
        var server = TestServer()
        server.limits.bodyTimeout = .milliseconds(300)
        try await serve(server) { port, _ in
            let client = try RawClient(port: port)
            client.send("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
            #expect(await client.read() == "")
        }
    }

    @Test("Who reads nothing is cut off, and keeps nobody else waiting")
    func slowReader() async throws {
        var server = TestServer()
        server.limits.writeTimeout = .milliseconds(300)
        let piece = String(repeating: "x", count: 1 << 16)
        server.engine = ScriptedEngine { request in
            ScriptedEngine.answer(request, request.prompt.count == 1 ? ["ok"] : Array(repeating: piece, count: 300))
        }
        let log = server.log
        try await serve(server) { port, _ in
            let slow = try RawClient(port: port)
            slow.post("/v1/chat/completions", Self.chat)
            let other = try RawClient(port: port)
            other.post("/v1/completions", Self.whole)
            #expect(await other.read(until: "total_tokens").contains("\"ok\""))
            try await eventually {
                log.all.contains { $0.contains("\"cancelled\"") && $0.contains("\"stream\":\"true\"") }
            }
            _ = slow
        }
    }

    @Test("A body above the limit ends the connection, so that its rest is not read")
    func largeBody() async throws {
        var server = TestServer()
        server.limits.bodyBytes = 1000
        try await serve(server) { port, _ in
            let client = try RawClient(port: port)
            client.send("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n{")
            let reply = await client.read()
            #expect(reply.hasPrefix("HTTP/1.1 413"))
            #expect(reply.contains("body_too_large"))
        }
    }

    @Test(
        "Only loopback names are answered without keys",
        arguments: [
            ("localhost", true), ("127.0.0.1:8080", true), ("[::1]:80", true), ("evil.example", false),
            ("127.0.0.1.evil.example", false), ("10.0.0.1", false),
        ])
    func hosts(host: String, isAnswered: Bool) async throws {
        try await serve { port, _ in
            let client = try RawClient(port: port)
            client.send("GET /v1/models HTTP/1.1\r\nHost: \(host)\r\n\r\n")
            #expect(await client.read(until: "}").hasPrefix(isAnswered ? "HTTP/1.1 200" : "HTTP/1.1 403"))
        }
    }

    @Test(
        "Without keys the server listens on loopback only",
        arguments: [
            ("0.0.0.0", false), ("::", false), ("192.168.1.1", false), ("example.org", false), ("127.0.0.1", true),
            ("::1", true), ("localhost", true),
        ])
    func addresses(host: String, isTaken: Bool) {
        var options = InferenceServer.Options(base: "", adapters: "")
        options.host = host
        #expect(((try? Listener(options)) != nil) == isTaken)
        options.keys = "keys.yaml"
        #expect((try? Listener(options)) != nil)
    }
}
