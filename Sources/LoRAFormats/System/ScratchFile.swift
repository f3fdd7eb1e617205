import Glibc

/// A file to write in pieces and then to read, or to map. It vanishes with its last use, unless it is kept under a name:
/// then it appears there whole (`open` with `O_CREAT | O_EXCL`, `fsync`, `rename`).
public struct ScratchFile: ~Copyable {
    /// Where it is until it is kept; nil for a file without a name.
    private var temporaryPath: String?
    private let descriptor: Int32
    private let directory: String
    /// Bytes written so far.
    public private(set) var count = 0

    /// What the names of files begin with that are not kept yet; only a process that was killed leaves one behind.
    public static let prefix = ".lora-"

    /// - Parameters:
    ///   - directory: where there is room for it, and where it may be kept.
    ///   - mayBeKept: otherwise it has no name from the start.
    /// - Throws: `FormatError` when the directory cannot be written.
    public init(directory: String, mayBeKept: Bool) throws {
        self.directory = directory
        let path = "\(directory)/\(Self.prefix)\(String(UInt64.random(in: .min ... .max), radix: 16)).tmp"
        let descriptor = try FormatError.locating(in: directory) { () throws(FormatError) in
            try SystemCall.check("cannot make a file in the directory") {
                open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
            }
        }
        self.descriptor = descriptor
        temporaryPath = mayBeKept ? path : nil
        if !mayBeKept { unlink(path) }
    }

    deinit {
        close(descriptor)
        if let temporaryPath { unlink(temporaryPath) }
    }

    /// Appends all of `bytes`.
    /// - Throws: `FormatError` with the system's reason, such as "No space left on device".
    public mutating func write(_ bytes: UnsafeRawBufferPointer) throws {
        let descriptor = descriptor
        try FormatError.locating(in: directory) { () throws(FormatError) in
            try SystemCall.writeAll(bytes, to: descriptor)
        }
        count += bytes.count
    }

    /// Puts the written bytes on disk, and gives the file the name `path`, which is in its directory.
    /// - Throws: `FormatError` with the system's reason.
    public mutating func keep(as path: String) throws {
        guard let source = temporaryPath else { preconditionFailure("\(path): the file was made without a name") }
        let descriptor = descriptor
        try FormatError.locating(in: path) { () throws(FormatError) in
            try SystemCall.check("cannot flush the file to disk") { fsync(descriptor) }
            try SystemCall.check("cannot move the finished file into place") { rename(source, path) }
        }
        temporaryPath = nil
        try AtomicFile.flush(directory: directory)
    }

    /// The file for reading, from its beginning.
    /// - Throws: `FormatError` with the system's reason.
    public func opened() throws -> OpenFile { try OpenFile(path: "/proc/self/fd/\(descriptor)") }
}
