import LoRAFormats

/// Which adapters are in service and which of them are in memory. A value behind a lock: nothing here waits or reads.
struct AdapterTable {
    typealias Waiter = @Sendable (Result<AdapterSnapshot, AdapterStore.Failure>) -> Void

    /// A name in service.
    struct Slot {
        /// Of the file in the directory.
        var path: String
        /// Of the version in service.
        var description: AdapterReader.Description
        /// Raised with every version; never the same for two.
        var revision: UInt64
        /// The version, when it is kept in memory.
        fileprivate(set) var snapshot: AdapterSnapshot?
        /// The version, as long as anyone has it.
        fileprivate weak var last: AdapterSnapshot?
        fileprivate(set) var lastUse: UInt64
        var isPinned = false
        var swaps = 0
        var published = ContinuousClock.now
        var publishedTime: Int
        /// Why the file at `path` does not give a version now.
        var failure: (reason: String, state: OpenFile.State?)?

        /// Whether it can be had again from its file.
        fileprivate var canUnload: Bool { snapshot != nil && !isPinned && failure == nil }
        fileprivate var loadedBytes: Int { snapshot?.residentBytes ?? 0 }
    }

    /// What to do to get a version.
    enum Plan {
        case take(AdapterSnapshot)
        /// Read the file, unless it is still in the state in which it cannot be used.
        case read(path: String, revision: UInt64, known: (state: OpenFile.State, reason: String)?)
        case unknown
    }

    /// How much others give way to a version that enters memory.
    enum Room {
        /// Not at all: it stays outside when it does not fit.
        case spare
        /// What was used longest ago goes.
        case made
    }

    /// What became of a version that was read.
    enum Outcome {
        /// A new name.
        case added
        /// - Parameter digest: of the version before.
        case replaced(digest: String)
        /// The version that was in service before.
        case unchanged
        /// Another version was published since `revision`, or the name was retired.
        case overtaken
    }

    /// What became of a version that was to stay in memory.
    enum Keeping {
        case kept
        case noRoom
        /// Another version is in service, or none.
        case outdated
    }

    private(set) var slots: [String: Slot] = [:]
    /// Why a file that has no version in service gives none, by name.
    var rejected: [String: String] = [:]
    /// Who waits for a name to be loaded.
    private var waiters: [String: [Waiter]] = [:]
    /// Of all versions that are kept.
    private(set) var loadedBytes = 0
    private let maximumBytes: Int
    private var clock: UInt64 = 0
    /// What left the table; to be freed when the lock is open again.
    private var discarded: [AdapterSnapshot] = []

    /// - Parameter maximumBytes: of versions that are kept; 0 for any number.
    init(maximumBytes: Int) { self.maximumBytes = maximumBytes == 0 ? .max : maximumBytes }

    mutating func takeDiscarded() -> [AdapterSnapshot] {
        defer { discarded = [] }
        return discarded
    }

    // MARK: Use

    /// What to do for someone who wants `name` now.
    mutating func plan(_ name: String) -> Plan {
        clock += 1
        slots[name]?.lastUse = clock
        guard let slot = slots[name] else { return .unknown }
        if let snapshot = slot.snapshot { return .take(snapshot) }
        // Running requests have it in memory anyway.
        if let last = slot.last {
            _ = keep(last, for: name, room: .made)
            return .take(last)
        }
        let known = slot.failure.flatMap { failure in failure.state.map { (state: $0, reason: failure.reason) } }
        return .read(path: slot.path, revision: slot.revision, known: known)
    }

    /// Notes that `waiter` wants `name`.
    /// - Returns: whether nobody did, so that loading has to begin.
    mutating func wait(for name: String, _ waiter: @escaping Waiter) -> Bool {
        waiters[name, default: []].append(waiter)
        return waiters[name]?.count == 1
    }

    mutating func takeWaiters(for name: String) -> [Waiter] { waiters.removeValue(forKey: name) ?? [] }

    /// Versions before this one; nil when the name is not in service.
    func revision(of name: String) -> UInt64? { slots[name]?.revision }

    // MARK: Versions

    /// Puts what a file was read as into service.
    /// - Parameters:
    ///   - snapshot: the loaded version; nil for one that is only described.
    ///   - revision: of the name when the reading began.
    mutating func publish(
        _ name: String, path: String, _ description: AdapterReader.Description, _ snapshot: AdapterSnapshot?,
        revision: UInt64?, time: Int
    ) -> Outcome {
        guard slots[name]?.revision == revision else { return .overtaken }
        rejected[name] = nil
        clock += 1
        guard let old = slots[name] else {
            slots[name] = Slot(
                path: path, description: description, revision: clock, lastUse: clock, publishedTime: time)
            slots[name]?.last = snapshot
            if let snapshot { _ = keep(snapshot, for: name, room: .spare) }
            return .added
        }
        slots[name]?.path = path
        slots[name]?.description = description
        slots[name]?.failure = nil
        if old.description.digest == description.digest {
            guard let snapshot, old.last == nil else { return .unchanged }
            slots[name]?.last = snapshot
            _ = keep(snapshot, for: name, room: .spare)
            return .unchanged
        }
        unload(name)
        slots[name]?.revision = clock
        slots[name]?.swaps = old.swaps + 1
        slots[name]?.published = .now
        slots[name]?.publishedTime = time
        slots[name]?.last = snapshot
        // A version takes the place that the one before had.
        if let snapshot { _ = keep(snapshot, for: name, room: old.snapshot == nil ? .spare : .made) }
        return .replaced(digest: old.description.digest)
    }

    /// Takes `name` out of service. Requests that run keep their version.
    /// - Returns: whether it was in service.
    mutating func retire(_ name: String) -> Bool {
        unload(name)
        return slots.removeValue(forKey: name) != nil
    }

    /// Notes why the file of a name in service gives no version.
    mutating func fail(_ name: String, reason: String, state: OpenFile.State?) {
        slots[name]?.failure = (reason, state)
    }

    /// - Returns: whether the name is in service.
    mutating func setPinned(_ name: String, _ isPinned: Bool) -> Bool {
        slots[name]?.isPinned = isPinned
        return slots[name] != nil
    }

    // MARK: Memory

    /// Keeps a version of `name` in memory.
    mutating func keep(_ snapshot: AdapterSnapshot, for name: String, room: Room) -> Keeping {
        guard let slot = slots[name], slot.description.digest == snapshot.digest else { return .outdated }
        if slot.snapshot != nil { return .kept }
        let bytes = snapshot.residentBytes
        if room == .made, !makeRoom(for: bytes, but: name) { return .noRoom }
        guard bytes <= maximumBytes - loadedBytes else { return .noRoom }
        slots[name]?.snapshot = snapshot
        slots[name]?.last = snapshot
        loadedBytes += bytes
        return .kept
    }

    /// Bytes that cannot be freed for `name`.
    func heldBytes(but name: String) -> Int {
        slots.reduce(0) { $0 + ($1.key == name || $1.value.canUnload ? 0 : $1.value.loadedBytes) }
    }

    /// Unloads what was used longest ago until `bytes` more fit; nothing when they cannot.
    private mutating func makeRoom(for bytes: Int, but name: String) -> Bool {
        guard bytes <= maximumBytes - heldBytes(but: name) else { return false }
        while bytes > maximumBytes - loadedBytes {
            let candidates = slots.filter { $0.key != name && $0.value.canUnload }
            guard let oldest = candidates.min(by: { $0.value.lastUse < $1.value.lastUse }) else { return false }
            unload(oldest.key)
        }
        return true
    }

    private mutating func unload(_ name: String) {
        guard let snapshot = slots[name]?.snapshot else { return }
        slots[name]?.snapshot = nil
        loadedBytes -= snapshot.residentBytes
        discarded.append(snapshot)
    }
}
