public import LoRAModel
public import LoRAText

/// Continues the prompts of many requests at a time on threads of its own.
public final class InferenceEngine: Sendable {
    /// Limits of an engine.
    public struct Limits: Sendable {
        /// Sequences that run at a time.
        public var sequences = 16
        /// Requests that may wait, of all tenants and of one.
        public var waiting = 256
        public var waitingPerTenant = 64
        /// Tokens that prompt and continuation may have together.
        public var positions: Int
        /// Bytes of keys and values, cached prefixes included.
        public var cacheBytes = 1 << 30

        public init(positions: Int) { self.positions = positions }
    }

    /// Why a request is not taken.
    public enum Refusal: Error, Sendable, Equatable {
        /// The queue is full.
        /// - Parameter retryAfter: seconds after which it is worth trying again.
        case queueFull(retryAfter: Int)
        /// The engine is ending.
        case draining
        /// The base's file changed under the map, or another failure that ended the engine.
        case failed(String)
    }

    /// How busy an engine is.
    public struct Load: Sendable {
        public var running = 0
        public var waiting = 0
        /// Names of adapters of running and of waiting requests, without the base.
        public var runningAdapters: [String] = []
        public var waitingAdapters: [String] = []
    }

    public let limits: Limits

    public init(model: BaseModel, tokenizer: Tokenizer, pool: ThreadPool, compute: Compute, limits: Limits) throws {
        self.limits = limits
    }

    /// Queues a request. Its events follow; a consumer that ends before them frees the request's place within a step.
    /// - Throws: a refusal at once; the stream throws `Refusal.failed`.
    public func generate(
        _ request: GenerationRequest
    ) throws(Refusal) -> AsyncThrowingStream<GenerationEvent, any Error> {
        throw .draining
    }

    public var load: Load { Load() }

    /// Takes no more requests and returns when the last one ended, or all are ended after `timeout`.
    public func drain(timeout: Duration) async {}
}
