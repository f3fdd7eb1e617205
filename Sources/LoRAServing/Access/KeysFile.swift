import Glibc
import LoRAFormats

/// A file of keys: a YAML list with a mapping for each.
///
///     - id: acme
///       hash: sha256:…:…
///       adapters: [acme-*, shared]
///       requests_per_minute: 60
struct KeysFile {
    let keys: [AccessKey]
    /// The text that was read.
    let text: String
    /// Spaces before the list's dashes.
    let indentation: Int
    let warnings: [String]
    /// Whose file it is.
    private var owner: (user: uid_t, group: gid_t)?

    /// Honest files are far smaller; every key costs a hash for every request.
    private static let maximumBytes = 4 << 20
    private static let maximumKeys = 10_000
    private static let shownProblems = 20

    /// - Throws: `FormatError` with all problems of the file and their lines.
    init(path: String) throws {
        let (text, status) = try Self.read(path)
        try self.init(text: text, path: path, mode: UInt32(status.st_mode))
        owner = (status.st_uid, status.st_gid)
    }

    /// - Parameter path: for messages.
    init(text: String, path: String, mode: UInt32 = 0o600) throws {
        self.text = text
        var reader = EntryReader()
        (keys, indentation) = try FormatError.relocating(in: path) {
            let root = try YAMLNode(parsing: text)
            if root.isNothing { return ([], 0) }
            guard let list = root.list else {
                throw FormatError("line \(root.line): expected a list of keys: every key begins with '- id: NAME'")
            }
            guard list.count <= Self.maximumKeys else {
                throw FormatError("\(list.count) keys; at most \(Self.maximumKeys) are allowed")
            }
            let keys = list.compactMap { reader.key(from: $0) }
            guard reader.problems.isEmpty else { throw FormatError(Self.summary(reader.problems)) }
            return (keys, root.column - 1)
        }
        warnings =
            mode & 0o077 == 0
            ? []
            : ["\(path): others can use this file (mode \(String(mode & 0o777, radix: 8))); run: chmod 600 \(path)"]
    }

    private static func summary(_ problems: [String]) -> String {
        let rest = problems.count - shownProblems
        return problems.prefix(shownProblems).joined(separator: "; ") + (rest > 0 ? "; and \(rest) more" : "")
    }

    /// The file at `path`; nil when there is none.
    init?(ifAt path: String) throws {
        if access(path, F_OK) != 0, errno == ENOENT { return nil }
        try self.init(path: path)
    }

    /// The path behind symbolic links, where there is a file.
    static func resolved(_ path: String) -> String {
        guard let resolved = realpath(path, nil) else { return path }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    /// Gives the file that has replaced this one to the owner that this one had, as far as the process may.
    func keepOwner(path: String) {
        if let owner { _ = chown(path, owner.user, owner.group) }
    }

    /// The text and the status of a file, which others may be writing.
    private static func read(_ path: String) throws -> (text: String, status: stat) {
        func failure(_ action: String) -> FormatError {
            FormatError("\(action): \(String(cString: strerror(errno)))", file: path)
        }
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw failure("cannot open the keys") }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure("cannot examine the keys") }
        guard status.st_mode & S_IFMT == S_IFREG else { throw FormatError("is not a regular file", file: path) }
        var bytes = [UInt8](repeating: 0, count: maximumBytes + 1)
        var count = 0
        while count < bytes.count {
            let added = bytes.withUnsafeMutableBytes { bytes in
                let rest = UnsafeMutableRawBufferPointer(rebasing: bytes[count...])
                return Glibc.read(descriptor, rest.baseAddress, rest.count)
            }
            if added < 0, errno == EINTR { continue }
            guard added >= 0 else { throw failure("cannot read the keys") }
            guard added > 0 else { break }
            count += added
        }
        guard count <= maximumBytes else {
            throw FormatError("has more than \(maximumBytes) bytes; this is no file of keys", file: path)
        }
        guard let text = String(validating: bytes[..<count], as: UTF8.self) else {
            throw FormatError("is not UTF-8", file: path)
        }
        return (text, status)
    }
}
