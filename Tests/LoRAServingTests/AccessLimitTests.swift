import Testing

@testable import LoRAServing

@Suite("Limits of keys")
struct AccessLimitTests {
    let start = ContinuousClock.now

    func key(_ limits: AccessKey.Limits) -> (AccessControl, AccessKey) {
        let control = AccessControl(keys: ["k": AccessKey(id: "k", limits: limits)])
        return (control, control.key(bearer: "k") ?? AccessKey(id: "none"))
    }

    func refusal(_ control: AccessControl, _ key: AccessKey, at seconds: Double) -> Int? {
        do {
            try control.admit(key, now: start + .seconds(seconds)).finish(tokens: 0, now: start + .seconds(seconds))
            return nil
        } catch { return error.retryAfter }
    }

    @Test("A minute's requests may come at once, then as the minute goes")
    func rate() {
        let (control, key) = key(.init(requestsPerMinute: 6))
        for _ in 0..<6 { #expect(refusal(control, key, at: 0) == nil) }
        #expect(refusal(control, key, at: 0) == 10)
        #expect(refusal(control, key, at: 9.5) == 1)
        #expect(refusal(control, key, at: 10) == nil)
        #expect(refusal(control, key, at: 10) == 10)
        // Refused ones cost nothing, and time that runs backwards gives nothing.
        #expect(refusal(control, key, at: 3) == 10)
        #expect(refusal(control, key, at: 30) == nil && refusal(control, key, at: 30) == nil)
        #expect(refusal(control, key, at: 30) == 10)
        for _ in 0..<6 { #expect(refusal(control, key, at: 10_000) == nil) }
        #expect(refusal(control, key, at: 10_000) == 10)
    }

    @Test("What was told to wait gets through after as long")
    func retrying() throws {
        let (control, key) = key(.init(requestsPerMinute: 7))
        var now = 0.0
        var begun = 0
        for _ in 0..<200 {
            if let wait = refusal(control, key, at: now) {
                now += Double(wait)
                #expect(refusal(control, key, at: now) == nil)
            }
            begun += 1
        }
        #expect(Double(begun) <= 7 + now * 7 / 60 + 1e-3)
    }

    @Test("Requests at a time: an end makes room, however often it is told")
    func concurrency() throws {
        let (control, key) = key(.init(concurrentRequests: 2))
        let first = try control.admit(key)
        var second: Admission? = try control.admit(key)
        #expect(throws: LimitExceeded(retryAfter: 1, message: "2 requests are allowed at a time")) {
            try control.admit(key)
        }
        first.finish(tokens: 1)
        first.finish(tokens: 1)
        let third = try control.admit(key)
        #expect(throws: LimitExceeded.self) { try control.admit(key) }
        // One that is forgotten ends, too.
        second = nil
        _ = second
        let fourth = try control.admit(key)
        #expect(throws: LimitExceeded.self) { try control.admit(key) }
        third.finish(tokens: 0)
        fourth.finish(tokens: 0)
    }

    @Test("A day's tokens are a day's; each request is charged once")
    func quota() throws {
        let (control, key) = key(.init(tokensPerDay: 100))
        let first = try control.admit(key, now: start)
        first.finish(tokens: 60, now: start)
        first.finish(tokens: 60, now: start)
        let second = try control.admit(key, now: start + .seconds(10))
        second.finish(tokens: 60, now: start + .seconds(3600))
        #expect(refusal(control, key, at: 3600) == 23 * 3600)
        #expect(refusal(control, key, at: 86_399.5) == 1)
        #expect(refusal(control, key, at: 86_400) == nil)
        let third = try control.admit(key, now: start + .seconds(86_401))
        third.finish(tokens: .max, now: start + .seconds(86_402))
        try #require(refusal(control, key, at: 86_403) != nil)
        #expect(refusal(control, key, at: 3 * 86_400) == nil)
        // A request that runs into the next day is charged there.
        let late = try control.admit(key, now: start + .seconds(3 * 86_400 + 1))
        late.finish(tokens: 100, now: start + .seconds(4 * 86_400 + 1))
        #expect(refusal(control, key, at: 4 * 86_400 + 2) == 86_399)
    }

    @Test("Keys do not use each other's limits")
    func apart() throws {
        let limits = AccessKey.Limits(requestsPerMinute: 1)
        let control = AccessControl(keys: ["1": .init(id: "a", limits: limits), "2": .init(id: "b", limits: limits)])
        for bearer in ["1", "2"] {
            let key = try #require(control.key(bearer: bearer))
            #expect(refusal(control, key, at: 0) == nil)
            #expect(refusal(control, key, at: 0) == 60)
        }
    }

    @Test("Of many threads at once no more get in than may")
    func threads() async throws {
        let (control, key) = key(.init(requestsPerMinute: 100, concurrentRequests: 50))
        let now = start
        let admitted = await withTaskGroup(of: Int.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    (0..<200).reduce(0) { count, _ in
                        guard let admission = try? control.admit(key, now: now) else { return count }
                        admission.finish(tokens: 1, now: now)
                        return count + 1
                    }
                }
            }
            return await group.reduce(0, +)
        }
        #expect(admitted == 100)
    }
}
