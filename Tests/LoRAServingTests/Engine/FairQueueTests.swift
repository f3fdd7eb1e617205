import LoRAModel
import Testing

@testable import LoRAServing

@Suite("Fair queue")
struct FairQueueTests {
    typealias Queue = FairQueue<Int>

    func queue(limit: Int = 100, limitPerTenant: Int = 100, _ waiting: [(String, Int)] = []) throws -> Queue {
        var queue = Queue(limit: limit, limitPerTenant: limitPerTenant)
        for (tenant, element) in waiting { try queue.append(element, tenant: tenant) }
        return queue
    }

    /// Takes the next request, which is served at once.
    func serve(_ queue: inout Queue, tokens: Int = 10) -> Int? {
        guard let next = queue.popNext() else { return nil }
        queue.charge(tenant: next.tenant, tokens: tokens)
        queue.finish(tenant: next.tenant)
        return next.element
    }

    @Test("One tenant's requests come in their order")
    func order() throws {
        var queue = try queue([("a", 1), ("a", 2), ("a", 3)])
        #expect(queue.count == 3 && !queue.isEmpty)
        #expect([serve(&queue), serve(&queue), serve(&queue), serve(&queue)] == [1, 2, 3, nil])
        #expect(queue.isEmpty && queue.tenantCount == 0)
    }

    @Test("The least served comes next; of equals the one that waits longest")
    func leastServed() throws {
        var queue = try queue([("a", 1), ("a", 2), ("a", 3), ("b", 11), ("b", 12), ("c", 21)])
        #expect((0..<6).map { _ in serve(&queue) } == [1, 11, 21, 2, 12, 3])
        queue = try self.queue([("a", 1), ("a", 2), ("b", 11), ("b", 12), ("b", 13), ("b", 14)])
        // Requests of different length: tokens count, not requests.
        let served = (0..<6).map { _ in
            let next = queue.popNext()
            queue.charge(tenant: next?.tenant ?? "", tokens: next?.tenant == "a" ? 30 : 10)
            return next?.element
        }
        #expect(served == [1, 11, 12, 13, 2, 14])
    }

    @Test("A tenant that comes back from idleness has saved nothing up, and waits for no one's past")
    func returning() throws {
        var queue = try queue([("a", 1), ("a", 2), ("a", 3), ("a", 4), ("a", 5)])
        for _ in 0..<3 { _ = serve(&queue, tokens: 100) }
        // "a" is at 300: "b" starts there and not at 0, so they take turns from now on.
        for element in 11...14 { try queue.append(element, tenant: "b") }
        #expect((0..<5).map { _ in serve(&queue, tokens: 100) } == [4, 11, 5, 12, 13])
    }

    @Test("Pausing sheds nothing while others work")
    func debt() throws {
        var queue = try queue([("b", 11), ("b", 12), ("b", 13), ("b", 14), ("a", 1)])
        _ = serve(&queue, tokens: 10)
        #expect(serve(&queue, tokens: 25) == 1)
        #expect(queue.tenantCount == 2, "the debt of 'a' is remembered")
        try queue.append(2, tenant: "a")
        #expect((0..<4).map { _ in serve(&queue) } == [12, 13, 2, 14])
        #expect(queue.tenantCount == 0)
    }

    @Test("Who runs counts as at work, and is charged while it does")
    func running() throws {
        var queue = try queue([("a", 1)])
        let popped = queue.popNext()
        let next = try #require(popped)
        queue.charge(tenant: "a", tokens: 500)
        try queue.append(11, tenant: "b")
        try queue.append(2, tenant: "a")
        // "b" starts at 500, as "a" is: the longer waiting one is first.
        #expect(queue.popNext()?.element == 11)
        queue.charge(tenant: "b", tokens: 1)
        #expect(queue.popNext()?.element == 2)
        queue.finish(tenant: next.tenant)
        #expect(queue.tenantCount == 2)
        queue.finish(tenant: "a")
        queue.finish(tenant: "b")
        #expect(queue.tenantCount == 0)
        queue.charge(tenant: "a", tokens: 5)
        #expect(queue.tenantCount == 0)
    }

    @Test("Both bounds refuse, and leave the queue as it was")
    func bounds() throws {
        var queue = try queue(limit: 3, limitPerTenant: 2, [("a", 1), ("a", 2)])
        #expect(throws: Queue.Full.tenant(2)) { try queue.append(3, tenant: "a") }
        try queue.append(11, tenant: "b")
        #expect(throws: Queue.Full.total(3)) { try queue.append(21, tenant: "c") }
        #expect(queue.count == 3 && queue.tenantCount == 2)
        _ = queue.popNext()
        try queue.append(3, tenant: "a")
        #expect(Set(queue.elements) == [2, 3, 11])
    }

    @Test("Requests that are gone leave no trace")
    func removing() throws {
        var queue = try queue([("a", 1), ("b", 11), ("a", 2), ("c", 21), ("a", 3)])
        #expect(queue.remove { $0 == 2 || $0 > 10 } == [11, 2, 21])
        #expect(queue.count == 2 && queue.tenantCount == 1)
        #expect([serve(&queue), serve(&queue), serve(&queue)] == [1, 3, nil])
        #expect(queue.remove { _ in true } == [])
    }

    @Test("Many tenants, most of which come once, leave nothing behind")
    func memory() throws {
        var queue = try queue([("steady", -1), ("steady", -2)])
        for element in 0..<10_000 {
            try queue.append(element, tenant: "\(element)")
            _ = serve(&queue, tokens: 1)
            if element % 2 == 0 { try queue.append(-element, tenant: "steady") }
            _ = serve(&queue, tokens: 1)
            #expect(queue.tenantCount <= queue.count + 2)
        }
    }

    @Test("Of tenants that always have work, none gets more than a request's tokens ahead of another")
    func fairness() throws {
        var random = SplitMix64(seed: 4)
        var queue = try queue()
        let tenants = ["a", "b", "c", "d"]
        var served: [String: Int] = [:]
        for tenant in tenants { for element in 0..<3 { try queue.append(element, tenant: tenant) } }
        for _ in 0..<2000 {
            let popped = queue.popNext()
            let next = try #require(popped)
            // "a" asks for much at a time, "d" for little.
            let tokens = 1 + Int(random.next() % (next.tenant == "a" ? 100 : next.tenant == "d" ? 3 : 20))
            queue.charge(tenant: next.tenant, tokens: tokens)
            served[next.tenant, default: 0] += tokens
            try queue.append(next.element, tenant: next.tenant)
            queue.finish(tenant: next.tenant)
            let counts = tenants.map { served[$0] ?? 0 }
            #expect((counts.max() ?? 0) - (counts.min() ?? 0) <= 100)
        }
    }
}
