import Dispatch
import Synchronization

/// Where requests wait for the engine's thread: the one place that it shares with the rest of the process.
final class RequestBoard: Sendable {
    /// A request with its number and its reader.
    struct Posting: Sendable {
        let number: Int
        let request: GenerationRequest
        let reader: AsyncThrowingStream<GenerationEvent, any Error>.Continuation
    }

    /// What the engine's thread has to know before a step.
    enum News {
        /// - Parameter withdrawn: numbers of running requests that nobody reads any more.
        case goOn(withdrawn: Set<Int>)
        case close
    }

    private struct State {
        var queue: FairQueue<Posting>
        var running: [Int: GenerationRequest] = [:]
        var withdrawn: Set<Int> = []
        var nextNumber = 0
        var refusal: InferenceEngine.Refusal?
        var isClosed = false
        /// Seconds that requests took lately.
        var meanSeconds = 1.0
        var pauses = 0
    }

    private let state: Mutex<State>
    private let news = DispatchSemaphore(value: 0)
    private let sequences: Int

    init(_ limits: InferenceEngine.Limits) {
        sequences = limits.sequences
        state = Mutex(State(queue: FairQueue(limit: limits.waiting, limitPerTenant: limits.waitingPerTenant)))
    }

    // MARK: The callers' side

    func post(
        _ request: GenerationRequest, _ reader: AsyncThrowingStream<GenerationEvent, any Error>.Continuation
    ) throws(InferenceEngine.Refusal) -> Int {
        let result = state.withLock { state -> Result<Int, InferenceEngine.Refusal> in
            if let refusal = state.refusal { return .failure(refusal) }
            let posting = Posting(number: state.nextNumber, request: request, reader: reader)
            do { try state.queue.append(posting, tenant: request.tenant) } catch {
                let turns = Double(state.queue.count) / Double(sequences)
                return .failure(.queueFull(retryAfter: max(1, min(60, Int((turns * state.meanSeconds).rounded(.up))))))
            }
            state.nextNumber += 1
            return .success(posting.number)
        }
        let number = try result.get()
        news.signal()
        return number
    }

    func withdraw(_ number: Int) {
        state.withLock { state in
            if state.running[number] != nil {
                state.withdrawn.insert(number)
            } else {
                state.queue.remove { $0.number == number }
            }
        }
        news.signal()
    }

    func refuseMore() { state.withLock { $0.refusal = $0.refusal ?? .draining } }

    func close() {
        state.withLock {
            $0.refusal = $0.refusal ?? .draining
            $0.isClosed = true
        }
        news.signal()
    }

    var refusal: InferenceEngine.Refusal? { state.withLock { $0.refusal } }

    var isBusy: Bool { state.withLock { !$0.running.isEmpty || !$0.queue.isEmpty } }

    var load: InferenceEngine.Load {
        state.withLock { state in
            let running = state.running.values.compactMap { $0.adapter?.name }
            let waiting = state.queue.elements.compactMap { $0.request.adapter?.name }
            return InferenceEngine.Load(
                running: state.running.count, waiting: state.queue.count,
                runningAdapters: Set(running).sorted(), waitingAdapters: Set(waiting).sorted(),
                pauses: state.pauses)
        }
    }

    // MARK: The engine's side

    /// Waits until there is something to do.
    /// - Parameter isBusy: whether requests are running.
    func awaitNews(isBusy: Bool) -> News {
        while news.wait(timeout: .now()) == .success {}
        let isIdle = !isBusy && state.withLock { $0.queue.isEmpty && !$0.isClosed }
        if isIdle { news.wait() }
        return state.withLock { state in
            if state.isClosed { return .close }
            defer { state.withdrawn = [] }
            return .goOn(withdrawn: state.withdrawn)
        }
    }

    /// The next request that shall run.
    func take() -> Posting? {
        state.withLock { state in
            guard let posting = state.queue.popNext()?.element else { return nil }
            state.running[posting.number] = posting.request
            return posting
        }
    }

    /// Notes tokens that were read or written for a tenant.
    func charge(_ tokens: [String: Int]) {
        state.withLock { state in for (tenant, count) in tokens { state.queue.charge(tenant: tenant, tokens: count) } }
    }

    /// A running request gave up its memory.
    func notePause() { state.withLock { $0.pauses += 1 } }

    /// A request has ended after `seconds`.
    func end(_ number: Int, seconds: Double) {
        state.withLock { state in
            guard let request = state.running.removeValue(forKey: number) else { return }
            state.queue.finish(tenant: request.tenant)
            state.withdrawn.remove(number)
            state.meanSeconds += (seconds - state.meanSeconds) / 16
        }
    }

    /// Ends all that wait.
    func endWaiting(_ refusal: InferenceEngine.Refusal) {
        let waiting = state.withLock { state -> [Posting] in
            state.refusal = refusal
            return state.queue.remove { _ in true }
        }
        for posting in waiting { posting.reader.finish(throwing: refusal) }
    }
}
