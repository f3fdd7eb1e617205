import Glibc

/// A regular file that is open for reading. Others may write to it meanwhile, so it is read, never mapped: a map of a
/// file that someone shortens ends the process.
public struct OpenFile: ~Copyable {
    /// What a file was at one moment; a change of content changes it.
    public struct State: Sendable, Hashable {
        /// Bytes.
        public let size: Int
        /// Times of the last change of content and of anything, nanoseconds since 1970.
        public let modified: Int
        public let changed: Int
        public let inode: UInt64
        public let device: UInt64

        fileprivate init(_ status: stat) {
            func nanoseconds(_ time: timespec) -> Int { Int(time.tv_sec) &* 1_000_000_000 &+ Int(time.tv_nsec) }
            size = Int(status.st_size)
            modified = nanoseconds(status.st_mtim)
            changed = nanoseconds(status.st_ctim)
            inode = UInt64(status.st_ino)
            device = UInt64(status.st_dev)
        }
    }

    /// When it was opened.
    public let state: State
    private let descriptor: Int32

    /// Opens the regular file at `path`.
    /// - Throws: `FormatError` with the path and the system's reason; for a directory or a device too.
    public init(path: String) throws(FormatError) {
        do throws(FormatError) {
            // A pipe without a writer would block an ordinary open for ever.
            let descriptor = try SystemCall.check("cannot open the file") {
                open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
            }
            try self.init(descriptor)
        } catch {
            throw error.located(in: path)
        }
    }

    /// Takes `descriptor` over.
    /// - Throws: `FormatError` when it is no regular file.
    init(_ descriptor: Int32) throws(FormatError) {
        self.descriptor = descriptor
        do throws(FormatError) { state = try Self.state(descriptor) } catch {
            close(descriptor)
            throw error
        }
    }

    deinit { close(descriptor) }

    /// The whole file as it was when it was opened; nil when it changed since.
    /// - Parameter limit: the most bytes that are read.
    /// - Throws: `FormatError` with the system's reason, and for an empty file or one over the limit.
    public func contents(limit: Int) throws -> OwnedBytes? {
        guard state.size > 0 else { throw FormatError("the file is empty (0 bytes)") }
        guard state.size <= limit else {
            throw FormatError("the file has \(state.size) bytes, more than the \(limit) that are read")
        }
        var isWhole = true
        let bytes = try OwnedBytes(count: state.size) { output in
            isWhole = try read(into: output, at: 0) == output.count
        }
        return try isWhole && isUnchanged() ? bytes : nil
    }

    /// Whether the file is as it was when it was opened.
    /// - Throws: `FormatError` with the system's reason.
    public func isUnchanged() throws(FormatError) -> Bool { try Self.state(descriptor) == state }

    /// Reads from byte `offset` on until `output` is full or the file ends.
    /// - Returns: the bytes read.
    /// - Throws: `FormatError` with the system's reason.
    public func read(into output: UnsafeMutableRawBufferPointer, at offset: Int) throws(FormatError) -> Int {
        var filled = 0
        while filled < output.count {
            let rest = UnsafeMutableRawBufferPointer(rebasing: output[filled...])
            let count = try SystemCall.check("cannot read the file") {
                pread(descriptor, rest.baseAddress, rest.count, off_t(offset + filled))
            }
            if count == 0 { break }
            filled += count
        }
        return filled
    }

    /// Maps the file, which nobody must shorten or write to any more.
    /// - Throws: `FormatError` with the system's reason; for an empty file too.
    public func map() throws -> MappedFile { try MappedFile(path: "/proc/self/fd/\(descriptor)") }

    private static func state(_ descriptor: Int32) throws(FormatError) -> State {
        var status = stat()
        try SystemCall.check("cannot examine the file") { fstat(descriptor, &status) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw FormatError("is not a regular file") }
        return State(status)
    }
}
