import Foundation
import Synchronization

/// Whether the user pressed Ctrl-C (SIGINT) or the system asked to end (SIGTERM). A second signal ends the process at
/// once.
final class Interruption: Sendable {
    private static let flag = Atomic<Bool>(false)

    init() {
        for number in [SIGINT, SIGTERM] {
            signal(number) { number in
                if Interruption.flag.exchange(true, ordering: .sequentiallyConsistent) { _exit(128 + number) }
            }
        }
    }

    var isRequested: Bool { Self.flag.load(ordering: .sequentiallyConsistent) }
}
