import Logging
import LoRAFormats
import LoRAModel
import LoRAText
import Synchronization

/// What all routes share.
final class ServingContext: Sendable {
    /// The base as clients see it.
    struct Base: Sendable {
        /// The file's name without its extension.
        var id: String
        /// Seconds since 1970.
        var created: Int
        /// `BaseFingerprint.fingerprint(of:)`
        var fingerprint: String
    }

    let base: Base
    let tokenizer: Tokenizer
    /// nil for a base without a chat template.
    let chat: ChatFormat?
    let engine: any GenerationSource
    let adapters: any AdapterSource
    let access: AccessControl
    /// Whether callers are told apart. Without keys the server listens on loopback only.
    let hasKeys: Bool
    let metrics: ServingMetrics
    let limits: HTTPLimits
    let connections: Connections
    let logger: Logger

    /// Tokens that prompt and answer may have together.
    var positions: Int { engine.limits.positions }

    private let state = Mutex(State())

    private struct State {
        var isDraining = false
        /// Requests that each adapter was named in.
        var requests: [String: Int] = [:]
    }

    init(
        base: Base, tokenizer: Tokenizer, chat: ChatFormat?, engine: any GenerationSource,
        adapters: any AdapterSource, access: AccessControl, hasKeys: Bool, metrics: ServingMetrics,
        limits: HTTPLimits = HTTPLimits(), logger: Logger
    ) {
        self.base = base
        self.tokenizer = tokenizer
        self.chat = chat
        self.engine = engine
        self.adapters = adapters
        self.access = access
        self.hasKeys = hasKeys
        self.metrics = metrics
        self.limits = limits
        connections = Connections(limits: limits)
        self.logger = logger
    }

    // MARK: State

    /// From now on `/ready` says no, so that balancers look elsewhere.
    func beginDraining() { state.withLock { $0.isDraining = true } }

    var isDraining: Bool { state.withLock { $0.isDraining } }

    func countRequest(adapter name: String) { state.withLock { $0.requests[name, default: 0] += 1 } }

    /// Requests of the adapters `names`; the counts of all others are forgotten.
    func requests(of names: [String]) -> [String: Int] {
        let known = Set(names)
        return state.withLock {
            $0.requests = $0.requests.filter { known.contains($0.key) }
            return $0.requests
        }
    }

    // MARK: Models

    /// Whether `key` may name `model`. Decided by the name alone, so that neither the answer nor its time tells whether
    /// another key's adapter exists.
    func allows(_ key: AccessKey, model: String) -> Bool {
        model == base.id ? key.allowsBase : key.allows(adapter: model)
    }

    /// The version in service of the adapter `model`; nil for the base.
    /// - Throws: 403 for what the key may not use, 404 for what does not exist, 503 for an adapter that cannot be loaded.
    func snapshot(_ model: String, for key: AccessKey) async throws(APIError) -> AdapterSnapshot? {
        guard allows(key, model: model) else { throw .modelForbidden(model) }
        if model == base.id { return nil }
        do throws(AdapterStore.Failure) {
            return try await adapters.snapshot(named: model)
        } catch {
            throw APIError(error)
        }
    }

    /// Of the base and an adapter, as `system_fingerprint` tells it.
    func fingerprint(_ adapter: AdapterSnapshot?) -> String {
        "fp_" + base.fingerprint.prefix(12) + (adapter.map { "_" + $0.digest.prefix(12) } ?? "")
    }
}

extension APIError {
    /// What a client is told of an adapter that cannot be had.
    init(_ failure: AdapterStore.Failure) {
        self =
            switch failure {
            case .unknown(let name): .modelNotFound(name)
            case .alreadyLoaded(let name):
                .badRequest(
                    "\(FormatError.quoted(name)) is loaded already; set 'load_inplace' to replace it",
                    param: "lora_name", code: "already_loaded")
            case .badPath(let path):
                .badRequest(
                    "\(FormatError.quoted(path)) is no file within the adapters directory", param: "lora_path",
                    code: "bad_path")
            case .unusable(let name, let reason):
                .unavailable(
                    "the adapter \(FormatError.quoted(name)) cannot be used: \(reason)", code: "adapter_unusable")
            }
    }

    /// What a client is told when the engine takes no request.
    init(_ refusal: InferenceEngine.Refusal) {
        self =
            switch refusal {
            case .queueFull(let seconds):
                .tooMany("too many requests are waiting; try again later", code: "queue_full", retryAfter: seconds)
            case .draining: .draining
            case .failed: .failed
            }
    }
}
