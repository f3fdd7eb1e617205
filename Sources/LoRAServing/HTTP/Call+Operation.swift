import HTTPTypes
import Hummingbird
import HummingbirdCore
import LoRAFormats
import OrderedCollections

extension Call {
    /// `GET /`: the playground.
    func page() -> Response {
        Response(
            text: Playground.html, type: "text/html; charset=utf-8",
            headers: [
                .contentSecurityPolicy: Playground.contentSecurityPolicy, .cacheControl: "no-cache",
                .xFrameOptions: "DENY", .referrerPolicy: "no-referrer",
            ])
    }

    /// `GET /health`: the process lives. A base that can no longer be read is no life; a supervisor should restart it.
    func health() -> Response {
        guard serving.engine.failure == nil else {
            return Response(error: .unavailable("the engine failed; restart the server", code: "engine_failed"))
        }
        return Response(json: .object(["status": .string("ok")]))
    }

    /// `GET /ready`: requests are taken.
    func ready() -> Response {
        if serving.isDraining { return Response(error: .draining) }
        guard serving.engine.failure == nil else { return health() }
        return Response(json: .object(["status": .string("ready")]))
    }

    /// `GET /metrics`, for Prometheus.
    func metricsText() -> Response {
        let text = serving.metrics.text(load: serving.engine.load, published: serving.adapters.entries.map(\.name))
        return Response(text: text, type: "text/plain; version=0.0.4; charset=utf-8")
    }
}

extension HTTPField.Name {
    static let xFrameOptions = HTTPField.Name(lenient: "X-Frame-Options")
    static let referrerPolicy = HTTPField.Name(lenient: "Referrer-Policy")

    init(lenient name: String) {
        guard let field = HTTPField.Name(name) else { preconditionFailure("\(name) is no field name") }
        self = field
    }
}
