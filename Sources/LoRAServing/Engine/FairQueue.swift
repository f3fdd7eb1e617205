struct FairQueue<Element> {
    var elements: [Element] = []
    let maximum: Int
    init(maximum: Int, maximumPerTenant: Int) { self.maximum = maximum }
    var count: Int { elements.count }
    mutating func append(_ e: Element, tenant: String) -> Bool {
        if elements.count >= maximum { return false }; elements.append(e); return true
    }
    mutating func popNext() -> Element? { elements.isEmpty ? nil : elements.removeFirst() }
    mutating func charge(tenant: String, tokens: Int) {}
    mutating func remove(where f: (Element) -> Bool) { elements.removeAll(where: f) }
}
