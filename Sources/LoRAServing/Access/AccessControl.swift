import LoRAFormats
import Synchronization

/// The keys in force.
///
/// What they have used is counted in this process: several servers with one file allow each its own share, and a
/// restart begins anew.
public final class AccessControl: Sendable {
    private struct State {
        var keys: [AccessKey]
        var warnings: [String]
    }

    /// Longer than any key, so that no one makes the server hash long texts.
    private static let longestKey = 256

    /// nil where there is no file.
    private let path: String?
    private let state: Mutex<State>
    private let isOpen: Bool

    private init(path: String?, keys: [AccessKey], warnings: [String], isOpen: Bool) {
        self.path = path
        self.isOpen = isOpen
        state = Mutex(State(keys: keys, warnings: warnings))
    }

    /// Keys from a file.
    /// - Throws: `FormatError` with all that is wrong with it.
    public convenience init(path: String) throws {
        let file = try KeysFile(path: path)
        self.init(path: path, keys: file.keys, warnings: file.warnings, isOpen: false)
    }

    /// Keys by what clients send; for tests.
    convenience init(keys: [String: AccessKey]) {
        self.init(path: nil, keys: keys.map { $1.with(KeyHash(of: $0)) }, warnings: [], isOpen: false)
    }

    /// Without a file of keys everything is allowed to everyone.
    public static let open = AccessControl(path: nil, keys: [anyone], warnings: [], isOpen: true)
    private static let anyone = AccessKey(id: "", isAdmin: true, adapters: ["*"])

    /// What an operator should know about the file.
    public var warnings: [String] { state.withLock { $0.warnings } }

    /// Names of the keys in force, in the file's order.
    public var ids: [String] { state.withLock { $0.keys.map(\.id) } }

    /// The key that a client sent (without "Bearer"), in a time that does not depend on which it is, or whether it is
    /// one.
    public func key(bearer text: String) -> AccessKey? {
        let keys = state.withLock { $0.keys }
        if isOpen { return keys.first }
        guard text.utf8.count <= Self.longestKey else { return nil }
        var found: Int?
        for (index, key) in keys.enumerated() where key.hash.matches(text) { found = index }
        return found.map { keys[$0] }
    }

    /// Lets a request begin, if the key's limits allow one more now.
    public func admit(_ key: AccessKey, now: ContinuousClock.Instant = .now) throws(LimitExceeded) -> Admission {
        try key.usage.begin(key.limits, now: now)
        return Admission(key.usage)
    }

    /// Reads the file again. What keys that stay have used still counts.
    /// - Throws: `FormatError`; the keys in force then stay.
    public func reload() throws {
        guard let path else { return }
        let file = try KeysFile(path: path)
        state.withLock { state in
            let earlier = Dictionary(state.keys.map { ($0.id, $0) }) { first, _ in first }
            state = State(keys: file.keys.map { $0.continuing(earlier[$0.id]) }, warnings: file.warnings)
        }
    }
}
