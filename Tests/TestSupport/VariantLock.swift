import Foundation

/// Keeps tests that switch the CPU variant of all kernels apart from those that compare bits: all test targets run in one
/// process. The lock is one of the directory of tests.
///
/// Tests run on as many threads as there are cores, so that those which may wait long do it without holding one.
public final class VariantLock {
    private var descriptor: Int32

    private init() {
        let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        descriptor = open(tests.path, O_RDONLY | O_CLOEXEC)
        precondition(descriptor >= 0, "cannot open \(tests.path)")
    }

    deinit { release() }

    public func release() {
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
    }

    /// The variant stays as it is until `release`; waits in place.
    public static func shared() -> VariantLock { waiting(LOCK_SH) }

    /// The caller may switch the variant until `release`; waits in place.
    public static func exclusive() -> VariantLock { waiting(LOCK_EX) }

    /// As `shared`, for tests that suspend.
    public static func sharedWhenFree() async throws -> VariantLock { try await polling(LOCK_SH) }

    /// As `exclusive`, for tests that suspend.
    public static func exclusiveWhenFree() async throws -> VariantLock { try await polling(LOCK_EX) }

    private static func waiting(_ kind: Int32) -> VariantLock {
        let lock = VariantLock()
        precondition(flock(lock.descriptor, kind) == 0, "cannot lock the directory of tests")
        return lock
    }

    private static func polling(_ kind: Int32) async throws -> VariantLock {
        let lock = VariantLock()
        while flock(lock.descriptor, kind | LOCK_NB) != 0 { try await Task.sleep(for: .milliseconds(5)) }
        return lock
    }
}
