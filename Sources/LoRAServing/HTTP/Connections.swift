import NIOCore
import Synchronization

/// The open connections: how many there are, and whose client is gone.
final class Connections: Sendable {
    let limits: HTTPLimits
    private let open = Mutex<[ObjectIdentifier: Connection]>([:])

    init(limits: HTTPLimits) { self.limits = limits }

    /// Connections that are served.
    var count: Int { open.withLock { $0.count } }

    /// The connection of a channel that is served; nil for one that never was, as in tests without sockets.
    func connection(of channel: any Channel) -> Connection? { open.withLock { $0[ObjectIdentifier(channel)] } }

    /// Takes a connection in.
    /// - Returns: nil when there are too many.
    func add(_ channel: any Channel) -> Connection? {
        open.withLock {
            guard $0.count < limits.connections else { return nil }
            let connection = Connection()
            $0[ObjectIdentifier(channel)] = connection
            return connection
        }
    }

    func remove(_ channel: any Channel) { open.withLock { $0[ObjectIdentifier(channel)] = nil } }
}

/// One client's connection.
final class Connection: Sendable {
    private struct State {
        var isGone = false
        var action: (@Sendable () -> Void)?
    }

    private let state = Mutex(State())

    /// Calls `action` when the client goes away, at once if it did. There is one request at a time, so one action.
    func whenGone(_ action: @escaping @Sendable () -> Void) {
        let isGone = state.withLock {
            if !$0.isGone { $0.action = action }
            return $0.isGone
        }
        if isGone { action() }
    }

    /// The request is answered.
    func forgetAction() { state.withLock { $0.action = nil } }

    /// The client sends nothing more.
    func end() {
        let action = state.withLock { state in
            state.isGone = true
            defer { state.action = nil }
            return state.action
        }
        action?()
    }
}
