import Dispatch
import Foundation
public import LoRAModel
public import LoRAText
import Synchronization

/// Continues the prompts of many requests at a time, on a thread of its own and those of its pool.
///
/// Batching is continuous (Orca, OSDI 2022): each step takes a token of every answer under way and some tokens of the
/// prompts that wait to be read, whatever their adapters. A request's tokens and log-probabilities are, bit for bit, those
/// that it would have alone.
public final class InferenceEngine: Sendable {
    /// Limits of an engine.
    public struct Limits: Sendable {
        /// Sequences that run at a time, at most `InferencePass.storedRows`.
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

    /// Why a request is not taken, or not ended.
    public enum Refusal: Error, Sendable, Equatable {
        /// The queue is full.
        /// - Parameter retryAfter: seconds after which it is worth trying again.
        case queueFull(retryAfter: Int)
        /// The engine is ending.
        case draining
        /// The base's file changed under the map.
        case failed(String)
    }

    /// How busy an engine is.
    public struct Load: Sendable, Equatable {
        public var running = 0
        public var waiting = 0
        /// Names of adapters of running and of waiting requests, without the base.
        public var runningAdapters: [String] = []
        public var waitingAdapters: [String] = []
        /// Times that an answer gave up its memory for older ones, since the start.
        public var pauses = 0
    }

    /// The limits in force: `positions` is no more than the base's context and `cacheBytes` allow.
    public let limits: Limits
    private let board: RequestBoard

    /// - Throws: `FormatError` when the memory cannot be had.
    public init(model: BaseModel, tokenizer: Tokenizer, pool: ThreadPool, compute: Compute, limits: Limits) throws {
        let limits = Self.bounded(limits, model.configuration, compute)
        let board = RequestBoard(limits)
        let scheduler = try Scheduler(
            model: model, tokenizer: tokenizer, pool: pool, compute: compute, limits: limits, board: board)
        self.limits = limits
        self.board = board
        let work = Handover(scheduler)
        let thread = Thread { work.take()?.run() }
        thread.name = "lora-engine"
        thread.stackSize = 8 << 20
        thread.start()
    }

    deinit { board.close() }

    private static func bounded(
        _ limits: Limits, _ configuration: ModelConfiguration, _ compute: Compute
    ) -> Limits {
        precondition(
            (1...InferencePass.storedRows).contains(limits.sequences), "\(limits.sequences) sequences at a time")
        var bounded = limits
        let pages = limits.cacheBytes / KeyValueCache.pageBytes(configuration: configuration, compute: compute)
        bounded.positions = min(limits.positions, configuration.contextLength, pages * KeyValueCache.pageLength)
        precondition(bounded.positions > 1, "\(limits.cacheBytes) bytes of keys and values, no room for a page")
        return bounded
    }

    /// Queues a request. Its events follow; a consumer that ends before them frees the request's place within a step.
    /// - Throws: a refusal at once; the stream throws `Refusal.failed`.
    public func generate(
        _ request: GenerationRequest
    ) throws(Refusal) -> AsyncThrowingStream<GenerationEvent, any Error> {
        precondition(!request.prompt.isEmpty, "an empty prompt")
        precondition(
            request.prompt.count + request.maximumTokens <= limits.positions,
            "\(request.prompt.count) + \(request.maximumTokens) tokens in \(limits.positions) positions")
        let (stream, continuation) = AsyncThrowingStream<GenerationEvent, any Error>.makeStream()
        let number = try board.post(request, continuation)
        continuation.onTermination = { [board] reason in
            if case .cancelled = reason { board.withdraw(number) }
        }
        return stream
    }

    public var load: Load { board.load }

    /// Why the engine ended by itself; nil while it works. Such an engine refuses everything: start the process again.
    public var failure: String? {
        if case .failed(let reason) = board.refusal { reason } else { nil }
    }

    /// Takes no more requests and returns when the last one ended, or all are ended after `timeout`.
    public func drain(timeout: Duration) async {
        board.refuseMore()
        let end = ContinuousClock.now + timeout
        while board.isBusy, ContinuousClock.now < end { try? await Task.sleep(for: .milliseconds(20)) }
        board.close()
    }
}

/// A value that one thread gives another, once.
// Sendable by proof: the giver lets go of the value, and the mutex hands it to one taker.
private final class Handover<Value>: @unchecked Sendable {
    private let mutex = Mutex(())
    private var value: Value?

    init(_ value: Value) { self.value = value }

    func take() -> Value? {
        mutex.withLock { _ in
            defer { value = nil }
            return value
        }
    }
}
