import Glibc

/// A file mapped read-only into memory (`open`, `fstat`, `mmap` with `MAP_SHARED | PROT_READ`): processes that map the
/// same file share one copy.
///
/// `@unchecked Sendable`: the pointer is set once, the mapping is never written through (the pages are read-only) and
/// stays until `deinit`, which runs when no thread holds the object any more.
public final class MappedFile: @unchecked Sendable {
    /// What identifies one state of a file: a change of content changes at least one of these.
    public struct Identity: Sendable, Hashable {
        /// Bytes.
        public let size: Int
        /// Time of the last change, nanoseconds since 1970.
        public let modified: Int
        public let inode: UInt64
        public let device: UInt64
    }

    public let path: String
    /// When the file was opened.
    public let identity: Identity
    /// The whole file; valid as long as this object lives. Mind that Swift may end its life right after its last use:
    /// keep it in a property, or use `withExtendedLifetime`.
    public let bytes: UnsafeRawBufferPointer

    /// Maps the regular file at `path`.
    /// - Parameter limit: The most bytes that are mapped.
    /// - Throws: `FormatError` with the path and the system's reason; for a directory, a device, an empty file and one
    ///   over the limit too.
    public init(path: String, limit: Int = .max) throws {
        self.path = path
        (identity, bytes) = try FormatError.locating(in: path) { () throws(FormatError) in
            try Self.map(path, limit: limit)
        }
    }

    deinit {
        munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count)
    }

    private static func map(_ path: String, limit: Int) throws(FormatError) -> (Identity, UnsafeRawBufferPointer) {
        // A pipe without a writer would block an ordinary open for ever.
        let descriptor = try SystemCall.check("cannot open the file") { open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) }
        defer { close(descriptor) }
        var status = stat()
        try SystemCall.check("cannot examine the file") { fstat(descriptor, &status) }
        switch status.st_mode & S_IFMT {
        case S_IFREG: break
        case S_IFDIR: throw FormatError("is a directory; name a file")
        default: throw FormatError("is not a regular file and cannot be mapped")
        }
        let size = Int(status.st_size)
        guard size > 0 else { throw FormatError("the file is empty (0 bytes)") }
        guard size <= limit else {
            throw FormatError("the file has \(size) bytes, more than the \(limit) that are read")
        }
        let address = mmap(nil, size, PROT_READ, MAP_SHARED, descriptor, 0)
        guard let address, address != MAP_FAILED else {
            throw SystemCall.failure("cannot map the file's \(size) bytes", code: errno)
        }
        let modified = Int(status.st_mtim.tv_sec) &* 1_000_000_000 &+ Int(status.st_mtim.tv_nsec)
        let identity = Identity(
            size: size, modified: modified, inode: UInt64(status.st_ino), device: UInt64(status.st_dev))
        return (identity, UnsafeRawBufferPointer(start: address, count: size))
    }
}
