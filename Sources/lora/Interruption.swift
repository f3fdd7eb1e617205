import Foundation
import Synchronization

/// Whether the user pressed Ctrl-C (SIGINT), the terminal went away (SIGHUP) or the system asked to end (SIGTERM). A second
/// signal ends the process at once.
final class Interruption: Sendable {
    private static let flag = Atomic<Bool>(false)

    init() {
        // Made before a handler can be the first to ask for it.
        _ = isRequested
        for number in [SIGINT, SIGHUP, SIGTERM] {
            let before = signal(number) { number in
                if Interruption.flag.exchange(true, ordering: .sequentiallyConsistent) { _exit(128 + number) }
            }
            // As nohup and shells ask for programs in the background.
            if Self.ignores(before) { signal(number, SIG_IGN) }
        }
    }

    var isRequested: Bool { Self.flag.load(ordering: .sequentiallyConsistent) }

    private static func ignores(_ handler: __sighandler_t?) -> Bool {
        unsafeBitCast(handler, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self)
    }
}
