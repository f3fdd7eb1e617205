import CLinux
import Glibc

/// A directory that is opened once. Files are found beneath it and nowhere else (`openat2` with `RESOLVE_BENEATH`),
/// whatever becomes of its path: absolute paths, `..` and symbolic links that lead out of it are refused.
public final class OpenDirectory: Sendable {
    /// Why a file beneath the directory cannot be opened.
    public enum Failure: Error, Sendable {
        /// No file has the path.
        case missing
        /// The path leads out of the directory, or is none.
        case outside
        /// Another reason, without the directory's path.
        case refused(FormatError)
    }

    public let path: String
    private let descriptor: Int32

    /// - Throws: `FormatError` with the path when it is no directory that can be read.
    public init(path: String) throws {
        self.path = path
        descriptor = try FormatError.locating(in: path) { () throws(FormatError) in
            try SystemCall.check("cannot open the directory") {
                Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            }
        }
    }

    deinit { close(descriptor) }

    /// Whether the path still leads to this directory.
    public var isAtPath: Bool {
        var (own, other) = (stat(), stat())
        return fstat(descriptor, &own) == 0 && stat(path, &other) == 0 && own.st_ino == other.st_ino
            && own.st_dev == other.st_dev
    }

    /// Names in the directory but `.` and `..`, in no order; those that are not UTF-8 are left out.
    /// - Throws: `FormatError`, also when the directory was deleted.
    public func names() throws(FormatError) -> [String] {
        // A position of its own: the descriptor is shared.
        let own = try SystemCall.check("cannot read the directory") {
            openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        }
        guard let stream = fdopendir(own) else {
            let code = errno
            close(own)
            throw SystemCall.failure("cannot read the directory", code: code)
        }
        defer { closedir(stream) }
        guard let nameOffset = MemoryLayout<dirent>.offset(of: \.d_name) else { return [] }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else { break }
            let text = (UnsafeRawPointer(entry) + nameOffset).assumingMemoryBound(to: CChar.self)
            guard let name = String(validatingCString: text), name != ".", name != ".." else { continue }
            names.append(name)
        }
        guard errno == 0 else { throw SystemCall.failure("cannot read the directory", code: errno) }
        // A deleted directory reads as an empty one.
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_nlink > 0 else {
            throw FormatError("the directory was deleted")
        }
        return names
    }

    /// Opens the regular file at `path` beneath the directory.
    public func open(_ path: String) throws(Failure) -> OpenFile {
        let parts = path.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        guard !path.isEmpty, path.utf8.count < PATH_MAX, !path.utf8.contains(0),
            !parts.contains(where: { $0.isEmpty || $0.elementsEqual("..".utf8) })
        else { throw .outside }
        let descriptor = try openBeneath(path)
        do throws(FormatError) { return try OpenFile(descriptor) } catch { throw .refused(error) }
    }

    private func openBeneath(_ path: String) throws(Failure) -> Int32 {
        while true {
            let file = lora_open_beneath(descriptor, path)
            if file >= 0 { return file }
            switch errno {
            // Something on the way was renamed meanwhile.
            case EINTR, EAGAIN: continue
            case ENOENT, ENOTDIR: throw .missing
            case EXDEV, ELOOP: throw .outside
            case let code: throw .refused(SystemCall.failure("cannot open the file", code: code))
            }
        }
    }
}
