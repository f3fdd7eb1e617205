import Glibc

/// A file that appears at its path whole or not at all: written to a temporary file in the same directory, flushed,
/// renamed over the target, the directory flushed (`open` with `O_CREAT | O_EXCL`, `fsync`, `rename`).
///
/// Until `commit()` returns, whatever was at the path stays untouched. An instance that goes away without it removes
/// its temporary file.
public struct AtomicFile: ~Copyable {
    /// The target, symbolic links resolved: a link to the file stays a link.
    public let path: String
    /// Bytes written so far.
    public private(set) var count = 0

    private let temporaryPath: String
    private let directory: String
    let descriptor: Int32
    private var isClosed = false
    private var isCommitted = false

    /// Creates the temporary file.
    /// - Parameter permissions: of a file where there is none yet, less what the process' mask takes off. One that is
    ///   replaced keeps its own.
    /// - Throws: `FormatError` when the path is a directory or its directory does not exist or cannot be written.
    public init(path: String, permissions: UInt32 = 0o666) throws {
        (self.path, directory, temporaryPath, descriptor) = try FormatError.locating(in: path) {
            () throws(FormatError) in try Self.create(for: path, permissions)
        }
    }

    deinit {
        if !isClosed { close(descriptor) }
        if !isCommitted { unlink(temporaryPath) }
    }

    /// Appends all of `bytes`.
    /// - Throws: `FormatError` with the system's reason, such as "No space left on device".
    public mutating func write(_ bytes: UnsafeRawBufferPointer) throws {
        let descriptor = descriptor
        try FormatError.locating(in: path) { () throws(FormatError) in
            try SystemCall.writeAll(bytes, to: descriptor)
        }
        count += bytes.count
    }

    /// Appends all of `bytes`.
    /// - Throws: `FormatError` with the system's reason.
    public mutating func write(_ bytes: [UInt8]) throws {
        try bytes.withUnsafeBytes { try write($0) }
    }

    /// Makes sure that `byteCount` bytes can be written, and takes the room for them (`posix_fallocate`).
    /// - Throws: `FormatError` with the system's reason, such as "No space left on device".
    public func reserve(_ byteCount: Int) throws {
        guard byteCount > 0 else { return }
        var code = posix_fallocate(descriptor, 0, byteCount)
        while code == EINTR { code = posix_fallocate(descriptor, 0, byteCount) }
        // A file system that cannot reserve shows only in writing whether there is room.
        if code == 0 || code == EOPNOTSUPP || code == EINVAL { return }
        throw SystemCall.failure("cannot write \(byteCount) bytes", code: code).located(in: path)
    }

    /// Makes the written bytes the content of the file at `path`.
    /// - Throws: `FormatError`; the old file is then still in place.
    public consuming func commit() throws {
        let (descriptor, source, target) = (descriptor, temporaryPath, path)
        try FormatError.locating(in: target) { () throws(FormatError) in
            try SystemCall.check("cannot flush the file to disk") { fsync(descriptor) }
        }
        isClosed = true
        guard close(descriptor) == 0 || errno == EINTR else {
            throw SystemCall.failure("cannot close the file", code: errno).located(in: target)
        }
        try FormatError.locating(in: target) { () throws(FormatError) in
            try SystemCall.check("cannot move the finished file into place") { rename(source, target) }
        }
        isCommitted = true
        try Self.flush(directory: directory)
    }

    /// Writes `bytes` to `path` in one go.
    /// - Throws: `FormatError`; the old file is then still in place.
    public static func write(_ bytes: [UInt8], to path: String, permissions: UInt32 = 0o666) throws {
        var file = try AtomicFile(path: path, permissions: permissions)
        try file.write(bytes)
        try file.commit()
    }

    /// Writes the UTF-8 of `text` to `path` in one go.
    /// - Throws: `FormatError`; the old file is then still in place.
    public static func write(_ text: String, to path: String, permissions: UInt32 = 0o666) throws {
        try write(Array(text.utf8), to: path, permissions: permissions)
    }

    // MARK: Parts

    private static func create(
        for path: String, _ permissions: UInt32
    ) throws(FormatError) -> (path: String, directory: String, temporaryPath: String, descriptor: Int32) {
        let (target, mode) = try examine(path)
        let directory = directory(of: target)
        let name = ".lora-\(String(UInt64.random(in: .min ... .max), radix: 16)).tmp"
        let temporaryPath = directory == "/" ? "/" + name : "\(directory)/\(name)"
        let descriptor = try SystemCall.check("cannot write in the directory '\(directory)'") {
            open(temporaryPath, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, permissions)
        }
        // A file that is replaced keeps its permissions; where the file system has none, this fails and may.
        if let mode { _ = fchmod(descriptor, mode) }
        return (target, directory, temporaryPath, descriptor)
    }

    /// The path behind symbolic links and the permissions of the file to replace.
    private static func examine(_ path: String) throws(FormatError) -> (path: String, mode: mode_t?) {
        guard !path.isEmpty, !path.utf8.contains(0) else { throw FormatError("is not a path to write to") }
        guard !path.hasSuffix("/") else { throw FormatError("names a directory; name a file") }
        var status = stat()
        guard lstat(path, &status) == 0 else {
            // Nothing there yet. Any other reason comes back when the temporary file is created.
            return (path, nil)
        }
        var target = path
        if status.st_mode & S_IFMT == S_IFLNK {
            guard let resolved = realpath(path, nil) else {
                throw SystemCall.failure("cannot follow the symbolic link", code: errno)
            }
            defer { free(resolved) }
            target = String(cString: resolved)
            try SystemCall.check("cannot examine the file") { stat(target, &status) }
        }
        switch status.st_mode & S_IFMT {
        case S_IFREG: return (target, status.st_mode & 0o777)
        case S_IFDIR: throw FormatError("is a directory; name a file")
        default: throw FormatError("is not a regular file and cannot be replaced")
        }
    }

    static func directory(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// Makes renames in `directory` last.
    /// - Throws: `FormatError` when the disk cannot take them.
    public static func flush(directory: String) throws(FormatError) {
        try FormatError.locating(in: directory) { () throws(FormatError) in
            let descriptor = try SystemCall.check("cannot open the directory") {
                open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            }
            defer { close(descriptor) }
            // Some network file systems cannot flush a directory and say so.
            if fsync(descriptor) != 0, errno != EINVAL, errno != EINTR {
                throw SystemCall.failure("cannot flush the directory to disk", code: errno)
            }
        }
    }
}

extension SystemCall {
    /// Calls `write` until all of `bytes` are in the file.
    package static func writeAll(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32) throws(FormatError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let part = UnsafeRawBufferPointer(rebasing: rest)
            let written = try check("cannot write") { write(descriptor, part.baseAddress, part.count) }
            rest = rest.dropFirst(written)
        }
    }
}
