import HTTPTypes
import LoRAFormats
import OrderedCollections

/// Why a request is refused, as the OpenAI interface tells it.
struct APIError: Error, Sendable, Equatable {
    var status: HTTPResponse.Status
    var message: String
    /// The kind of error: `invalid_request_error`, `rate_limit_error`…
    var type: String
    /// The field at fault.
    var param: String?
    /// What programs may tell errors apart by.
    var code: String?
    /// Seconds after which it is worth trying again.
    var retryAfter: Int?
    /// The methods that the path has, of a 405.
    var allow: String?

    /// `{"error": {message, type, param, code}}`
    var json: JSONValue {
        .object([
            "error": .object([
                "message": .string(message), "type": .string(type), "param": param.map(JSONValue.string) ?? .null,
                "code": code.map(JSONValue.string) ?? .null,
            ])
        ])
    }
}

extension APIError {
    static func badRequest(_ message: String, param: String? = nil, code: String? = nil) -> APIError {
        APIError(status: .badRequest, message: message, type: "invalid_request_error", param: param, code: code)
    }

    static let unauthorized = APIError(
        status: .unauthorized, message: "no valid API key; send it as \"Authorization: Bearer KEY\"",
        type: "authentication_error", code: "invalid_api_key")

    static func forbidden(_ message: String, param: String? = nil, code: String? = nil) -> APIError {
        APIError(status: .forbidden, message: message, type: "permission_error", param: param, code: code)
    }

    /// The same words whether or not the model exists, so that they tell nothing about other keys' adapters.
    static func modelForbidden(_ name: String) -> APIError {
        forbidden(
            "this key may not use the model \(FormatError.quoted(name))", param: "model", code: "model_not_allowed")
    }

    static func modelNotFound(_ name: String) -> APIError {
        APIError(
            status: .notFound,
            message: "there is no model \(FormatError.quoted(name)); GET /v1/models lists those that this key may use",
            type: "not_found_error", param: "model", code: "model_not_found")
    }

    static let pathNotFound = APIError(
        status: .notFound, message: "this path is not offered", type: "not_found_error", code: "path_not_found")

    static func methodNotAllowed(_ allowed: String) -> APIError {
        APIError(
            status: .methodNotAllowed, message: "this path takes \(allowed) only", type: "invalid_request_error",
            code: "method_not_allowed", allow: allowed)
    }

    static func bodyTooLarge(limit: Int) -> APIError {
        APIError(
            status: .contentTooLarge, message: "the body is larger than \(limit) bytes", type: "invalid_request_error",
            code: "body_too_large")
    }

    static func tooMany(_ message: String, code: String, retryAfter: Int) -> APIError {
        APIError(
            status: .tooManyRequests, message: message, type: "rate_limit_error", code: code, retryAfter: retryAfter)
    }

    static func unavailable(_ message: String, code: String, retryAfter: Int? = nil) -> APIError {
        APIError(
            status: .serviceUnavailable, message: message, type: "service_unavailable_error", code: code,
            retryAfter: retryAfter)
    }

    static let draining = unavailable("the server is ending; ask another one", code: "draining", retryAfter: 1)

    /// A failure that is not the client's; the log says more.
    static let failed = APIError(
        status: .internalServerError, message: "the server failed to answer; its log says why", type: "server_error",
        code: "internal_error")
}
