import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Logging
import LoRAFormats
import LoRAText
import NIOCore
import Synchronization

@testable import LoRAServing

/// The routes with scripted parts, without a socket.
struct TestServer {
    /// Bearer keys: tenants that may use names with their own prefix and nothing of each other, and an administrator.
    static let keys: [String: AccessKey] = [
        "secret-a": AccessKey(id: "tenant-a", isAdmin: false, allowsBase: true, adapters: ["a-*"]),
        "secret-b": AccessKey(id: "tenant-b", isAdmin: false, allowsBase: false, adapters: ["b-*"]),
        "secret-admin": AccessKey(id: "root", isAdmin: true, allowsBase: true, adapters: ["*"]),
    ]
    static let names = ["a-home", "a-office", "b-private", "broken"]

    var engine = ScriptedEngine()
    var adapters = ScriptedAdapters(TestServer.names)
    var access: AccessControl? = AccessControl(keys: TestServer.keys)
    var limits = HTTPLimits()
    var hasTemplate = true
    let log = LogLines()

    func context() throws -> ServingContext {
        let tokenizer = try TinyTokenizer.make()
        let template = try ChatTemplate(source: TinyTokenizer.template)
        let log = log
        let logger = Logger(label: "lora") { label in
            StructuredLogHandler(label: label, logLevel: .debug) { line in log.append(line) }
        }
        return ServingContext(
            base: .init(
                id: "tiny", created: 1_600_000_000, fingerprint: String(repeating: "0123456789abcdef", count: 4)),
            tokenizer: tokenizer, chat: hasTemplate ? ChatFormat(template: template, tokenizer: tokenizer) : nil,
            engine: engine, adapters: adapters, access: access ?? .open, hasKeys: access != nil,
            metrics: ServingMetrics(exporter: PrometheusExporter(), sequences: 16), limits: limits, logger: logger)
    }

    func run<Value>(_ test: @Sendable (TestClient) async throws -> Value) async throws -> Value {
        let context = try context()
        let application = Application(responder: APIResponder(serving: context))
        return try await application.test(.router) { client in
            try await test(TestClient(client: client, serving: context))
        }
    }
}

/// Lines of a log.
final class LogLines: Sendable {
    private let lines = Mutex<[String]>([])
    func append(_ line: String) { lines.withLock { $0.append(line) } }
    var all: [String] { lines.withLock { $0 } }
}

/// Sends requests and reads replies.
struct TestClient: Sendable {
    let client: any TestClientProtocol
    let serving: ServingContext

    struct Reply {
        let status: Int
        let headers: HTTPFields
        let text: String

        /// The body as JSON; null when it is none.
        var json: JSONValue { (try? JSONValue(parsing: text)) ?? .null }
        var error: JSONValue? { json["error"] }

        /// The data of server-sent events.
        var events: [String] {
            text.components(separatedBy: "\n\n").filter { !$0.isEmpty }.map { String($0.dropFirst("data: ".count)) }
        }
    }

    func send(
        _ method: HTTPRequest.Method = .get, _ path: String, key: String? = "secret-a", body: String? = nil,
        headers: HTTPFields = [:]
    ) async throws -> Reply {
        var headers = headers
        if let key { headers[.authorization] = "Bearer \(key)" }
        if body != nil { headers[.contentType] = "application/json" }
        let response = try await client.executeRequest(
            uri: path, method: method, headers: headers, body: body.map { ByteBuffer(string: $0) })
        return Reply(
            status: response.status.code, headers: response.headers, text: String(buffer: response.body))
    }

    /// A chat with one message, and `more` members.
    func chat(_ more: String = "", model: String = "tiny", key: String? = "secret-a") async throws -> Reply {
        try await send(
            .post, "/v1/chat/completions", key: key,
            body: #"{"model": "\#(model)", "messages": [{"role": "user", "content": "hi"}]\#(more)}"#)
    }

    /// A completion of "the" with `more` members.
    func complete(_ more: String = "", prompt: String = "\"the\"", key: String? = "secret-a") async throws -> Reply {
        try await send(
            .post, "/v1/completions", key: key, body: #"{"model": "tiny", "prompt": \#(prompt)\#(more)}"#)
    }
}
