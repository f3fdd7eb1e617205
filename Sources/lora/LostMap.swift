import Foundation

/// What happens when the file behind a map is truncated: reading what is gone raises SIGBUS, and there is no value to go
/// on with. The process says so and ends with status 1 instead of dumping its memory.
enum LostMap {
    static func endsProcess() {
        signal(SIGBUS) { _ in
            let message: StaticString =
                "Error: a mapped file was truncated while it was in use; restore it and start again\n"
            _ = write(STDERR_FILENO, message.utf8Start, message.utf8CodeUnitCount)
            _exit(1)
        }
        // A parent may have blocked it for its children.
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGBUS)
        pthread_sigmask(SIG_UNBLOCK, &signals, nil)
    }
}
