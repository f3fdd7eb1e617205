import Crypto
import Dispatch

/// SHA-256 of bytes that come piece by piece, computed by another thread than the one that brings them.
///
/// `@unchecked Sendable`: `hash` is used on `queue` alone, which runs one task at a time.
final class BackgroundDigest: @unchecked Sendable {
    private let queue = DispatchQueue(label: "lora.digest")
    private var hash = SHA256()

    /// Takes the next bytes, which must stay as they are until `wait` returns.
    func update(_ bytes: UnsafeRawBufferPointer) {
        nonisolated(unsafe) let bytes = bytes
        queue.async { self.hash.update(bufferPointer: bytes) }
    }

    /// Returns when nobody reads the bytes any more.
    func wait() { queue.sync {} }

    /// The digest as 64 lower-case hexadecimal digits.
    func finish() -> String { queue.sync { Digest.hexadecimal(hash.finalize()) } }
}
