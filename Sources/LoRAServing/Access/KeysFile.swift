import Glibc
import LoRAFormats
import Yams

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
            guard let root = try Self.compose(text), !root.isNothing else { return ([], 0) }
            guard case .sequence(let list) = root else {
                throw FormatError("line \(root.line): expected a list of keys: every key begins with '- id: NAME'")
            }
            guard list.count <= Self.maximumKeys else {
                throw FormatError("\(list.count) keys; at most \(Self.maximumKeys) are allowed")
            }
            let keys = list.compactMap { reader.key(from: $0) }
            guard reader.problems.isEmpty else { throw FormatError(Self.summary(reader.problems)) }
            return (keys, max(0, (list.mark?.column ?? 1) - 1))
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

    private static func compose(_ text: String) throws(FormatError) -> Node? {
        do {
            // Yams keeps a pointer to the text, which is only good for one that is too long to be kept in a register.
            return try Yams.compose(yaml: text + String(repeating: "\n", count: 16))
        } catch let error as YamlError {
            switch error {
            case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
                .composer(_, let problem, let mark, _):
                throw FormatError("line \(mark.line): not YAML: \(problem)")
            case .duplicatedKeysInMapping(let duplicates, let context):
                let names = duplicates.map { FormatError.quoted($0) }.joined(separator: ", ")
                throw FormatError("line \(context.mark.line): \(names) is there twice; keep one")
            case .reader(let problem, _, _, _): throw FormatError("not YAML: \(problem)")
            default: throw FormatError("not YAML")
            }
        } catch {
            throw FormatError("not YAML")
        }
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

extension Node {
    var line: Int { mark?.line ?? 1 }

    /// Whether nothing was written.
    var isNothing: Bool {
        scalar.map { $0.style == .plain && ["", "~", "null", "Null", "NULL"].contains($0.string) } ?? false
    }
}
