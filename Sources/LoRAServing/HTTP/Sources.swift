import LoRAModel

/// What the routes need of the engine.
protocol GenerationSource: Sendable {
    var limits: InferenceEngine.Limits { get }
    var load: InferenceEngine.Load { get }
    /// Why nothing can be computed any more.
    var failure: String? { get }
    func generate(
        _ request: GenerationRequest
    ) throws(InferenceEngine.Refusal) -> AsyncThrowingStream<GenerationEvent, any Error>
    func drain(timeout: Duration) async
}

extension InferenceEngine: GenerationSource {}

/// What the routes need of the adapters.
protocol AdapterSource: Sendable {
    var entries: [AdapterStore.Entry] { get }
    /// Why files of the directory are not published, by name.
    var rejected: [String: String] { get }
    func snapshot(named name: String) async throws(AdapterStore.Failure) -> AdapterSnapshot
    func load(name: String, path: String, replaces: Bool) async throws(AdapterStore.Failure)
    func unload(name: String) throws(AdapterStore.Failure)
}

extension AdapterStore: AdapterSource {}
