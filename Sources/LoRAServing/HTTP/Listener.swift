import Foundation
import Hummingbird
import HummingbirdCore
import HummingbirdTLS
import LoRAFormats
import NIOCore
import NIOSSL

/// Where the server listens, and how connections begin.
struct Listener: Sendable {
    private let host: String
    private let port: Int
    private let tls: TLSConfiguration?

    /// - Throws: `FormatError` for a certificate that cannot be read, and for a host beyond loopback without keys.
    init(_ options: InferenceServer.Options) throws {
        host = options.host
        port = options.port
        guard options.keys != nil || Loopback.isLoopback(host: host) else {
            throw FormatError(
                "--host \(host) without --keys would let anyone in; make a key with --new-key, or listen on 127.0.0.1")
        }
        switch (options.certificate, options.privateKey) {
        case (nil, nil): tls = nil
        case (let certificate?, let key?): tls = try Self.tls(certificate: certificate, key: key)
        default: throw FormatError("--tls-certificate and --tls-key go together; give both")
        }
    }

    private static func tls(certificate: String, key: String) throws -> TLSConfiguration {
        let chain = try reading(certificate, as: "certificates") { try NIOSSLCertificate.fromPEMFile(certificate) }
        guard !chain.isEmpty else { throw FormatError("no certificate in PEM form", file: certificate) }
        let key = try reading(key, as: "a private key") { try NIOSSLPrivateKey(file: key, format: .pem) }
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key))
        configuration.minimumTLSVersion = .tlsv12
        configuration.applicationProtocols = ["http/1.1"]
        return configuration
    }

    private static func reading<Value>(_ file: String, as kind: String, _ read: () throws -> Value) throws -> Value {
        do { return try read() } catch { throw FormatError("cannot be read as \(kind) in PEM form", file: file) }
    }

    /// HTTP/1.1, with TLS where there is a certificate.
    func builder(connections: Connections) throws -> HTTPServerBuilder {
        let limits = connections.limits
        let plain = HTTPServerBuilder.http1(
            configuration: .init(
                additionalChannelHandlers: [ConnectionHandler(connections: connections)],
                httpDecoderConfiguration: .init(
                    maxHeaderFieldSize: limits.headerBytes, maxHeaderListSize: limits.headerBytes,
                    maxHeaderFieldCount: limits.headerFields)))
        guard let tls else { return plain }
        do {
            return try .tls(plain, tlsConfiguration: tls)
        } catch {
            throw FormatError("the certificate and the private key do not go together: \(error)")
        }
    }

    func url(port: Int) -> String {
        "\(tls == nil ? "http" : "https")://\(host.contains(":") ? "[\(host)]" : host):\(port)"
    }

    /// What an error of the socket means to people.
    func explained(_ error: any Error) -> any Error {
        guard let error = error as? IOError else { return error }
        return FormatError("cannot listen on \(host) port \(port): \(String(cString: strerror(error.errnoCode)))")
    }
}
