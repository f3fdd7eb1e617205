/// The `loop` variable. Elements are taken one at a time, so that a loop's test sees what its body has changed.
final class LoopState: HeapObject {
    private var source: Generator?
    var generator: Generator? { source }
    /// Known unless the loop has a test or goes over a generator.
    private var knownCount: Int?
    private(set) var index0 = -1
    private var current: Value?
    private(set) var previous: Value?
    /// The next element when it was looked at: nothing inside when there is none.
    private var ahead: Value??
    private var lastChanged: [Value]?
    let depth: Int

    init(_ source: Generator, count: Int?) {
        self.source = source
        depth = source.depth
        knownCount = count
    }

    func clear() {
        source = nil
        current = nil
        previous = nil
        ahead = nil
        lastChanged = nil
    }

    func advance() throws(TemplateError) -> Value? {
        guard let value = try peek() else { return nil }
        ahead = nil
        index0 += 1
        previous = current
        current = value
        return value
    }

    func peek() throws(TemplateError) -> Value? {
        if let ahead { return ahead }
        let value = try source?.next()
        ahead = .some(value)
        return value
    }

    func count() throws(TemplateError) -> Int {
        if let knownCount { return knownCount }
        var rest: [Value] = []
        if let next = try peek() { rest.append(next) }
        while let value = try source?.next() { rest.append(value) }
        knownCount = index0 + 1 + rest.count
        ahead = nil
        var position = 0
        source = Generator { () throws(TemplateError) -> Value? in
            guard position < rest.count else { return nil }
            position += 1
            return rest[position - 1]
        }
        return index0 + 1 + rest.count
    }

    /// Remembers `values`, and tells whether they differ from the last ones.
    func changes(
        to values: [Value], areEqual: ([Value], [Value]) throws(TemplateError) -> Bool
    ) throws(TemplateError) -> Bool {
        if let lastChanged, try areEqual(lastChanged, values) { return false }
        lastChanged = values
        return true
    }
}
