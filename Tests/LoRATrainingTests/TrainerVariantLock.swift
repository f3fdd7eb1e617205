import Foundation
import Testing

/// Keeps kernel tests, which run in the same process, from switching the CPU variant while a test compares bits.
final class VariantLock {
    private let descriptor: Int32

    init() {
        // The directory that `Variant.use` of the kernel tests locks.
        let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        descriptor = open(tests.path, O_RDONLY | O_CLOEXEC)
        #expect(descriptor >= 0 && flock(descriptor, LOCK_SH) == 0)
    }

    func release() { close(descriptor) }
}
