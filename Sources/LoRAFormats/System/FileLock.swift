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

    /// The right to use `directory`, which is made when it is not there (its parent must be).
    /// - Parameter refusal: what to say when another process has the right.
    /// - Throws: `FormatError`.
    package init(claiming directory: String, refusal: String) throws(FormatError) {
        descriptor = try FormatError.locating(in: directory) { () throws(FormatError) in
            while true {
                if let claimed = try Self.claim(directory, refusal) { return claimed }
            }
        }
    }

    deinit { close(descriptor) }

    /// - Returns: nil when the directory was removed meanwhile.
    private static func claim(_ directory: String, _ refusal: String) throws(FormatError) -> Int32? {
        if mkdir(directory, 0o777) != 0, errno != EEXIST {
            throw SystemCall.failure("cannot make the directory", code: errno)
        }
        let descriptor = Glibc.open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            throw SystemCall.failure("cannot open the directory", code: errno)
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let code = errno
            close(descriptor)
            throw code == EWOULDBLOCK
                ? FormatError(refusal) : SystemCall.failure("cannot lock the directory", code: code)
        }
        var (own, other) = (stat(), stat())
        guard fstat(descriptor, &own) == 0, stat(directory, &other) == 0, own.st_ino == other.st_ino,
            own.st_dev == other.st_dev
        else {
            close(descriptor)
            return nil
        }
        return descriptor
    }

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
