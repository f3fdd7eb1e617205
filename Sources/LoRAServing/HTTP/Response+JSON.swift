import HTTPTypes
import Hummingbird
import HummingbirdCore
import LoRAFormats
import NIOCore

extension Response {
    init(json: JSONValue, status: HTTPResponse.Status = .ok, headers: HTTPFields = [:]) {
        self.init(text: json.serialized(), type: "application/json", status: status, headers: headers)
    }

    init(text: String, type: String, status: HTTPResponse.Status = .ok, headers: HTTPFields = [:]) {
        var headers = headers
        headers[.contentType] = type
        self.init(status: status, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
    }

    init(error: APIError) {
        self.init(json: error.json, status: error.status, headers: error.headers)
    }
}

extension APIError {
    var headers: HTTPFields {
        var headers: HTTPFields = [:]
        if let retryAfter { headers[.retryAfter] = String(retryAfter) }
        if let allow { headers[.allow] = allow }
        if status == .unauthorized { headers[.wwwAuthenticate] = "Bearer" }
        // What is left of such a body is not worth reading.
        if status == .contentTooLarge { headers[.connection] = "close" }
        return headers
    }
}

extension JSONValue {
    /// A number that JSON readers see as written: the shortest decimal of a `Float`.
    init(_ value: Float) { self = .number(Double(value.description) ?? Double(value)) }

    init(_ value: Int) { self = .integer(Int64(value)) }
}
