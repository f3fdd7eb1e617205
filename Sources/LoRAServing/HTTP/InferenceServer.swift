import Foundation
import Hummingbird
import HummingbirdCore
public import Logging
import LoRAFormats
import LoRAModel
import LoRAText
import NIOCore
import ServiceLifecycle
import UnixSignals

/// One base, the adapters of a directory, and the HTTP interface to them.
public final class InferenceServer: Sendable {
    /// What to serve, where and to whom.
    public struct Options: Sendable {
        /// The base, a GGUF file.
        public var base: String
        /// The directory of `.lora` files.
        public var adapters: String
        /// Without `keys`, a loopback address.
        public var host = "127.0.0.1"
        /// 0 for any free one.
        public var port = 8080
        /// The keys file.
        public var keys: String?
        /// PEM files; both or none.
        public var certificate: String?
        public var privateKey: String?
        /// Bytes that loaded adapters may take; 0 for as many as there are.
        public var adapterBytes = 0
        /// Requests that run at a time.
        public var sequences = 16
        /// Threads for arithmetic; nil for all cores.
        public var threads: Int?
        /// How long running requests may go on after the server is asked to end.
        public var drainTimeout = Duration.seconds(30)
        public var limits = HTTPLimits()

        public init(base: String, adapters: String) {
            self.base = base
            self.adapters = adapters
        }
    }

    private let options: Options
    private let serving: ServingContext
    private let listener: Listener
    private let logger: Logger

    /// Maps the base, reads the adapters and checks all options; nothing listens yet.
    /// - Throws: `FormatError` for a base, a directory, a keys file or a certificate that cannot be used.
    public init(_ options: Options, exporter: PrometheusExporter, logger: Logger) throws {
        self.options = options
        self.logger = logger
        listener = try Listener(options)
        let access = try options.keys.map { try AccessControl(path: $0) } ?? .open
        let model = try BaseModel(path: options.base)
        let tokenizer = try Tokenizer(gguf: model.file)
        let adapters = try AdapterStore(
            directory: options.adapters, base: model, maximumBytes: options.adapterBytes, threads: options.threads,
            logger: logger, metrics: exporter)
        let pool = ThreadPool(count: options.threads)
        var limits = InferenceEngine.Limits(positions: model.configuration.contextLength)
        limits.sequences = options.sequences
        serving = ServingContext(
            base: try Self.identity(options.base, fingerprint: adapters.baseFingerprint), tokenizer: tokenizer,
            chat: try ChatFormat(gguf: model.file, tokenizer: tokenizer),
            engine: try InferenceEngine(
                model: model, tokenizer: tokenizer, pool: pool, compute: .best, limits: limits),
            adapters: adapters, access: access, hasKeys: options.keys != nil,
            metrics: ServingMetrics(exporter: exporter, sequences: options.sequences), limits: options.limits,
            logger: logger)
        for warning in access.warnings { logger.warning("keys", metadata: ["warning": "\(warning)"]) }
        for entry in adapters.entries where entry.name == serving.base.id {
            logger.warning(
                "no request can choose this adapter: the base has its name; rename one of the two",
                metadata: ["adapter": "\(entry.name)"])
        }
    }

    private static func identity(_ path: String, fingerprint: String) throws -> ServingContext.Base {
        let url = URL(fileURLWithPath: path)
        let id = url.deletingPathExtension().lastPathComponent
        let date = try url.resourceValues(forKeys: [.contentModificationDateKey]).contentModificationDate
        return ServingContext.Base(
            id: id, created: Int(date?.timeIntervalSince1970 ?? 0), fingerprint: fingerprint)
    }

    /// Serves until SIGTERM or SIGINT: then it stops accepting, lets running requests finish, and returns. SIGHUP reads
    /// the keys file again.
    /// - Parameter isListening: told where, once requests are taken.
    /// - Throws: `FormatError` when it cannot listen, or when the base's file changed under the map.
    public func run(isListening: @escaping @Sendable (String) -> Void) async throws {
        let (options, listener, serving) = (options, listener, serving)
        let application = Application(
            responder: APIResponder(serving: serving),
            server: try listener.builder(connections: serving.connections),
            configuration: .init(
                address: .hostname(options.host, port: options.port), serverName: "lora", backlog: 1024),
            onServerRunning: { channel in
                isListening(listener.url(port: channel.localAddress?.port ?? options.port))
            },
            logger: Self.quiet(logger))
        let group = ServiceGroup(
            configuration: {
                var configuration = ServiceGroupConfiguration(
                    services: [
                        .init(
                            service: EngineWatch(engine: serving.engine),
                            failureTerminationBehavior: .gracefullyShutdownGroup),
                        .init(service: KeyReloader(access: serving.access, hasKeys: serving.hasKeys, logger: logger)),
                        .init(
                            service: DrainingService(
                                service: application, serving: serving, timeout: options.drainTimeout)),
                    ],
                    gracefulShutdownSignals: [.sigterm, .sigint], logger: Self.quiet(logger))
                // Whoever reads nothing must not keep the process alive.
                configuration.maximumGracefulShutdownDuration = options.drainTimeout + .seconds(5)
                return configuration
            }())
        do {
            try await group.run()
        } catch let failure as FormatError {
            throw failure
        } catch {
            // Ended late is ended.
            if !serving.isDraining { throw listener.explained(error) }
            logger.warning("connections were cut", metadata: ["error": "\(error)"])
        }
        // Ending the process under a running step would end in the arithmetic's libraries.
        await serving.engine.drain(timeout: .zero)
        for _ in 0..<100 where serving.engine.load.running > 0 { try? await Task.sleep(for: .milliseconds(20)) }
    }

    /// The framework's own lines say nothing that the routes' do not.
    private static func quiet(_ logger: Logger) -> Logger {
        var logger = logger
        logger.logLevel = max(logger.logLevel, .warning)
        return logger
    }
}

/// Runs the application; when the process is asked to end, the engine takes no more and ends what runs too long.
private struct DrainingService<Base: Service>: Service {
    let service: Base
    let serving: ServingContext
    let timeout: Duration

    func run() async throws {
        try await withGracefulShutdownHandler {
            try await service.run()
        } onGracefulShutdown: {
            serving.beginDraining()
            serving.logger.info("draining", metadata: ["running": .stringConvertible(serving.engine.load.running)])
            Task { await serving.engine.drain(timeout: timeout) }
        }
    }
}

/// Reads the keys file again on SIGHUP.
private struct KeyReloader: Service {
    let access: AccessControl
    let hasKeys: Bool
    let logger: Logger

    func run() async throws {
        for await _ in await UnixSignalsSequence(trapping: .sighup).cancelOnGracefulShutdown() where hasKeys {
            do {
                try access.reload()
                logger.info("keys reloaded")
            } catch {
                logger.error("keys not reloaded; the earlier ones stay", metadata: ["error": "\(error)"])
            }
        }
    }
}
