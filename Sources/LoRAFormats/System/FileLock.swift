import Glibc

/// The right to replace a file, which one process has at a time (`flock`); it ends with the instance or the process.
package struct FileLock: ~Copyable {
    private let descriptor: Int32

    /// - Parameter identity: of the file as it was read: another one at the path means that it was replaced since.
    /// - Throws: `FormatError` when another process has the lock, or the file was replaced.
    init(path: String, identity: MappedFile.Identity) throws(FormatError) {
        descriptor = try Self.open(path, identity)
    }

    /// The right to replace files in the directory of `path`, be there such a file or not: waits until no other process
    /// has it.
    /// - Throws: `FormatError` when there is no such directory.
    package init(directoryOf path: String) throws(FormatError) {
        descriptor = try Self.openDirectory(AtomicFile.directory(of: path))
    }

    deinit { close(descriptor) }

    private static func open(_ path: String, _ identity: MappedFile.Identity) throws(FormatError) -> Int32 {
        let descriptor = try FormatError.locating(in: path) { () throws(FormatError) in
            try SystemCall.check("cannot open the file") { Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) }
        }
        do throws(FormatError) {
            guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
                throw FormatError("another process is replacing this file; try again when it is done", file: path)
            }
            try check(path: path, identity: identity)
        } catch {
            close(descriptor)
            throw error
        }
        return descriptor
    }

    private static func openDirectory(_ directory: String) throws(FormatError) -> Int32 {
        try FormatError.locating(in: directory) { () throws(FormatError) in
            let descriptor = try SystemCall.check("cannot open the directory") {
                Glibc.open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            }
            do throws(FormatError) {
                try SystemCall.check("cannot lock the directory") { flock(descriptor, LOCK_EX) }
            } catch {
                close(descriptor)
                throw error
            }
            return descriptor
        }
    }

    /// - Throws: `FormatError` when the file at `path` is not the one of `identity` any more.
    static func check(path: String, identity: MappedFile.Identity) throws(FormatError) {
        var status = stat()
        guard stat(path, &status) == 0, UInt64(status.st_ino) == identity.inode,
            UInt64(status.st_dev) == identity.device, Int(status.st_size) == identity.size,
            Int(status.st_mtim.tv_sec) &* 1_000_000_000 &+ Int(status.st_mtim.tv_nsec) == identity.modified
        else { throw FormatError("the file was replaced while it was read; try again", file: path) }
    }
}
