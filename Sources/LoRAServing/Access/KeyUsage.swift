import Synchronization

/// What a key has used of its limits, in this process since it began.
final class KeyUsage: Sendable {
    private struct State {
        var running = 0
        /// Requests that may begin now, at `refilled`; nil before the first.
        var requests: Double?
        var refilled: ContinuousClock.Instant?
        /// Tokens of the day that ends then.
        var tokens = 0
        var dayEnd: ContinuousClock.Instant?
    }

    private let state = Mutex(State())

    /// Counts a request that begins, or says why it may not.
    func begin(_ limits: AccessKey.Limits, now: ContinuousClock.Instant) throws(LimitExceeded) {
        let refusal = state.withLock { state -> LimitExceeded? in
            if let refusal = Self.checkQuota(&state, limits, now) ?? Self.checkConcurrency(state, limits)
                ?? Self.takeFromRate(&state, limits, now)
            {
                return refusal
            }
            state.running += 1
            return nil
        }
        if let refusal { throw refusal }
    }

    /// Counts a request that has ended, with tokens of its prompt and its answer.
    func end(tokens: Int, now: ContinuousClock.Instant) {
        state.withLock { state in
            state.running -= 1
            Self.beginDay(&state, now)
            let (sum, overflows) = state.tokens.addingReportingOverflow(max(tokens, 0))
            state.tokens = overflows ? .max : sum
        }
    }

    // MARK: Limits

    private static func beginDay(_ state: inout State, _ now: ContinuousClock.Instant) {
        if let end = state.dayEnd, now < end { return }
        state.tokens = 0
        state.dayEnd = now + .seconds(24 * 60 * 60)
    }

    private static func checkQuota(
        _ state: inout State, _ limits: AccessKey.Limits, _ now: ContinuousClock.Instant
    ) -> LimitExceeded? {
        beginDay(&state, now)
        guard let quota = limits.tokensPerDay, state.tokens >= quota, let end = state.dayEnd else { return nil }
        return LimitExceeded(
            retryAfter: seconds(now.duration(to: end)), message: "the quota of \(quota) tokens a day is used up")
    }

    private static func checkConcurrency(_ state: State, _ limits: AccessKey.Limits) -> LimitExceeded? {
        guard let limit = limits.concurrentRequests, state.running >= limit else { return nil }
        return LimitExceeded(
            retryAfter: 1, message: "\(limit) \(limit == 1 ? "request is" : "requests are") allowed at a time")
    }

    /// A bucket of a minute's requests that fills steadily.
    private static func takeFromRate(
        _ state: inout State, _ limits: AccessKey.Limits, _ now: ContinuousClock.Instant
    ) -> LimitExceeded? {
        guard let limit = limits.requestsPerMinute else { return nil }
        let perSecond = Double(limit) / 60
        let passed = state.refilled.map { max(0, $0.duration(to: now) / .seconds(1)) } ?? 0
        var requests = min((state.requests ?? Double(limit)) + passed * perSecond, Double(limit))
        defer {
            state.requests = requests
            state.refilled = max(now, state.refilled ?? now)
        }
        // A request that may begin in a millionth of a second may begin now: fractions do not add up to 1 exactly.
        guard requests >= 1 - 1e-6 * perSecond else {
            let wait = limit > 0 ? (1 - requests) / perSecond : 60
            return LimitExceeded(
                retryAfter: seconds(.seconds(wait)), message: "\(limit) requests a minute are allowed")
        }
        requests = max(0, requests - 1)
        return nil
    }

    /// Whole seconds, at least 1.
    private static func seconds(_ duration: Duration) -> Int {
        let (seconds, rest) = duration.components
        return max(1, Int(clamping: seconds) + (rest > 0 ? 1 : 0))
    }
}

/// Why a key gets no answer now.
public struct LimitExceeded: Error, Sendable, Equatable {
    /// Seconds after which it is worth trying again.
    public var retryAfter: Int
    /// Which limit, for the client.
    public var message: String
}

/// A request that counts as running until it is finished, or its last holder lets go of it.
public final class Admission: Sendable {
    private let usage: KeyUsage
    private let isFinished = Atomic(false)

    init(_ usage: KeyUsage) { self.usage = usage }

    deinit { finish(tokens: 0) }

    /// Ends the request and charges tokens of its prompt and its answer; only the first time counts.
    public func finish(tokens: Int, now: ContinuousClock.Instant = .now) {
        guard !isFinished.exchange(true, ordering: .relaxed) else { return }
        usage.end(tokens: tokens, now: now)
    }
}
