import LoRAFormats
import ServiceLifecycle

/// Fails when the engine has ended by itself, as when the base's file changed under the map: nothing can be answered any
/// more, and whoever supervises the process has to start it again.
struct EngineWatch: Service {
    let engine: any GenerationSource

    /// Long enough for the requests that the failure ends to be told so.
    private static let interval = Duration.milliseconds(200)

    /// - Throws: `FormatError` with the engine's reason.
    func run() async throws {
        while !Task.isShuttingDownGracefully, !Task.isCancelled {
            try? await cancelWhenGracefulShutdown { try await Task.sleep(for: Self.interval) }
            if let reason = engine.failure { throw FormatError("\(reason); restore it and start again") }
        }
    }
}
