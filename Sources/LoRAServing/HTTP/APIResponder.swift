import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import LoRAFormats
import NIOCore

/// The connection that a request came by.
struct APIContext: InitializableFromSource, Sendable {
    let channel: any Channel

    init(source: ApplicationRequestContextSource) { channel = source.channel }
}

/// Answers requests: finds the endpoint, checks who asks, and turns every failure into the interface's error object.
struct APIResponder: HTTPResponder {
    let serving: ServingContext

    func respond(to request: Request, context: APIContext) async throws -> Response {
        let id = RandomID.make(digits: 16)
        var response: Response
        do {
            response = try await answer(request, id: id, channel: context.channel)
        } catch let error as APIError {
            serving.logger.debug(
                "refused",
                metadata: ["request": "\(id)", "status": "\(error.status.code)", "code": "\(error.code ?? error.type)"])
            response = Response(error: error)
        } catch is CancellationError {
            response = Response(error: .draining)
        } catch {
            serving.logger.error("failed", metadata: ["request": "\(id)", "error": "\(error)"])
            response = Response(error: .failed)
        }
        response.headers[.requestID] = id
        response.headers[.xContentTypeOptions] = "nosniff"
        return request.method == .head ? response.createHeadResponse() : response
    }

    private func answer(_ request: Request, id: String, channel: any Channel) async throws -> Response {
        guard let endpoint = Endpoint(path: request.uri.path) else { throw APIError.pathNotFound }
        let isHead = request.method == .head && endpoint.method == .get
        guard request.method == endpoint.method || isHead else {
            throw APIError.methodNotAllowed(endpoint.method == .get ? "GET, HEAD" : endpoint.method.rawValue)
        }
        try checkOrigin(request)
        let call = Call(
            serving: serving, request: request, id: id, key: try key(request, for: endpoint.audience),
            connection: serving.connections.connection(of: channel), start: .now)
        return try await call.answer(endpoint)
    }

    /// The caller, as far as the endpoint asks.
    private func key(_ request: Request, for audience: Endpoint.Audience) throws(APIError) -> AccessKey? {
        if audience == .everyone { return nil }
        guard let key = serving.access.key(bearer: Self.bearer(request)) else { throw .unauthorized }
        switch audience {
        case .everyone, .anyKey: break
        case .admin where !serving.hasKeys: break
        case .adminOnly where !serving.hasKeys:
            throw .forbidden(
                "adapters are loaded and unloaded with an admin's key only; start the server with --keys",
                code: "admin_key_required")
        case .admin, .adminOnly:
            guard key.isAdmin else { throw .forbidden("this needs an admin's key", code: "admin_key_required") }
        }
        return key
    }

    private static func bearer(_ request: Request) -> String {
        guard let header = request.headers[.authorization] else { return "" }
        let parts = header.split(separator: " ", maxSplits: 1)
        guard parts.count == 2, parts[0].lowercased() == "bearer" else { return "" }
        return String(parts[1].drop { $0 == " " })
    }

    /// Refuses what a web page on another site makes a browser send. Where there are no keys, nothing else would: such a
    /// page reaches loopback, and by a name that it resolves to 127.0.0.1 it could even read the answers.
    private func checkOrigin(_ request: Request) throws(APIError) {
        let authority = request.head.authority
        if let origin = request.headers[.origin], let authority, Self.host(ofOrigin: origin) != authority {
            throw .forbidden("requests of other sites' pages are not answered", code: "cross_origin")
        }
        if !serving.hasKeys, let authority, !Loopback.isLoopback(authority: authority) {
            throw .forbidden("without --keys the server answers to loopback names only", code: "host_not_loopback")
        }
    }

    private static func host(ofOrigin origin: String) -> String? {
        guard let range = origin.range(of: "://") else { return nil }
        return String(origin[range.upperBound...])
    }
}

extension Call {
    func answer(_ endpoint: Endpoint) async throws -> Response {
        switch endpoint {
        case .page: page()
        case .health: health()
        case .ready: ready()
        case .metrics: metricsText()
        case .models: models()
        case .model(let name): try model(name)
        case .chat: try await complete(isChat: true)
        case .completions: try await complete(isChat: false)
        case .loadAdapter: try await loadAdapter()
        case .unloadAdapter: try await unloadAdapter()
        case .adapters: adapterTable()
        }
    }
}

/// Names that nobody can guess and that do not repeat.
enum RandomID {
    static func make(digits: Int) -> String {
        var random = SystemRandomNumberGenerator()
        let alphabet = Array("0123456789abcdef")
        return String((0..<digits).map { _ in alphabet[Int.random(in: 0..<16, using: &random)] })
    }
}
