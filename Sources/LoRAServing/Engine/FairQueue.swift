/// Requests that wait, by tenant: next is the oldest one of the tenant that was served least.
///
/// The virtual token counter of arXiv 2401.00588: each tenant has a counter of served tokens. A tenant that comes back
/// from idleness starts no lower than the lowest counter of those at work, so that it cannot save up; no one starts
/// higher than it was, so that nobody starves. A counter is kept through idleness only while it is above that lowest
/// one, so that no one sheds what it was served by pausing; tenants without work and without such a debt are forgotten.
struct FairQueue<Element> {
    /// Which bound leaves no room.
    enum Full: Error, Equatable {
        case total(Int)
        case tenant(Int)
    }

    private struct Waiting {
        var element: Element
        /// Requests that came before it.
        var number: Int
    }

    private struct Tenant {
        var served: Int
        /// The oldest first.
        var waiting: [Waiting] = []
        var running = 0
        var isActive: Bool { running > 0 || !waiting.isEmpty }
    }

    /// Requests that may wait, of all tenants and of one.
    let limit: Int
    let limitPerTenant: Int
    /// Requests that wait.
    private(set) var count = 0

    private var tenants: [String: Tenant] = [:]
    private var arrivals = 0

    init(limit: Int, limitPerTenant: Int) {
        self.limit = limit
        self.limitPerTenant = limitPerTenant
    }

    var isEmpty: Bool { count == 0 }

    /// The requests that wait, by tenant and age.
    var elements: [Element] { tenants.values.flatMap { $0.waiting.map(\.element) } }

    /// Tenants that are known: not more than have work or a debt.
    var tenantCount: Int { tenants.count }

    /// Puts a request behind the others of its tenant.
    mutating func append(_ element: Element, tenant name: String) throws(Full) {
        guard count < limit else { throw .total(limit) }
        guard tenants[name]?.waiting.count ?? 0 < limitPerTenant else { throw .tenant(limitPerTenant) }
        var tenant = tenants[name] ?? Tenant(served: 0)
        if !tenant.isActive { tenant.served = max(tenant.served, lowestActive ?? 0) }
        tenant.waiting.append(Waiting(element: element, number: arrivals))
        tenants[name] = tenant
        arrivals += 1
        count += 1
    }

    /// Takes the request that is next, which then runs until `finish(tenant:)`.
    mutating func popNext() -> (element: Element, tenant: String)? {
        let next = tenants.lazy.compactMap { name, tenant in
            tenant.waiting.first.map { (name: name, served: tenant.served, number: $0.number) }
        }
        .min { ($0.served, $0.number) < ($1.served, $1.number) }
        guard let name = next?.name, let element = tenants[name]?.waiting.removeFirst().element else { return nil }
        tenants[name]?.running += 1
        count -= 1
        return (element, name)
    }

    /// Adds tokens that a running request was served with, of its prompt and of its answer.
    mutating func charge(tenant: String, tokens: Int) {
        precondition(tokens >= 0, "\(tokens) tokens")
        tenants[tenant]?.served += tokens
    }

    /// A request that was taken has ended.
    mutating func finish(tenant: String) {
        precondition(tenants[tenant]?.running ?? 0 > 0, "no request of '\(tenant)' runs")
        tenants[tenant]?.running -= 1
        forgetIdle()
    }

    /// Takes waiting requests out, such as those whose client went away.
    @discardableResult
    mutating func remove(where isGone: (Element) -> Bool) -> [Element] {
        var removed: [Waiting] = []
        for name in tenants.keys {
            let gone = tenants[name]?.waiting.filter { isGone($0.element) } ?? []
            guard !gone.isEmpty else { continue }
            let numbers = Set(gone.map(\.number))
            tenants[name]?.waiting.removeAll { numbers.contains($0.number) }
            removed += gone
        }
        count -= removed.count
        if !removed.isEmpty { forgetIdle() }
        return removed.sorted { $0.number < $1.number }.map(\.element)
    }

    private var lowestActive: Int? { tenants.values.lazy.filter(\.isActive).map(\.served).min() }

    private mutating func forgetIdle() {
        guard let lowest = lowestActive else { return tenants.removeAll() }
        tenants = tenants.filter { $1.isActive || $1.served > lowest }
    }
}
