import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import LoRAFormats
import NIOCore

/// One request on its way to an answer.
struct Call: Sendable {
    let serving: ServingContext
    let request: Request
    /// Names the request in the log and in the reply's `x-request-id`.
    let id: String
    /// Who asks; nil on paths that anyone may use.
    let key: AccessKey?
    let connection: Connection?
    let start: ContinuousClock.Instant

    /// Metadata that every line about this request has.
    var logger: Logger {
        var logger = serving.logger
        logger[metadataKey: "request"] = "\(id)"
        if let key { logger[metadataKey: "key"] = "\(key.id)" }
        return logger
    }

    /// The body as JSON.
    /// - Throws: 400 when it is none, 413 when it is too large.
    func json() async throws -> JSONValue {
        let limit = serving.limits.bodyBytes
        if let length = request.headers[.contentLength].flatMap({ Int($0) }), length > limit {
            throw APIError.bodyTooLarge(limit: limit)
        }
        let bytes = try await bytes(limit: limit)
        guard !bytes.isEmpty else { throw APIError.badRequest("the body is empty; send a JSON object") }
        do {
            return try JSONValue(parsing: bytes)
        } catch let error as FormatError {
            throw APIError.badRequest(error.message, code: "invalid_json")
        }
    }

    private func bytes(limit: Int) async throws(APIError) -> [UInt8] {
        var bytes: [UInt8] = []
        var parts = request.body.makeAsyncIterator()
        while true {
            let part: ByteBuffer?
            do { part = try await parts.next() } catch { throw .badRequest("the body breaks off", code: "broken_body") }
            guard let part else { return bytes }
            guard bytes.count + part.readableBytes <= limit else { throw .bodyTooLarge(limit: limit) }
            bytes.append(contentsOf: part.readableBytesView)
        }
    }
}

extension HTTPField.Name {
    static let requestID = HTTPField.Name(lenient: "X-Request-Id")
}
