internal import Crypto
internal import Foundation
internal import LoRAFormats

/// A directory of token files that later runs take instead of reading the data again.
///
/// A file is named by what it was made of and how. Whoever may write there is trusted, damage is not: a file is checked
/// once, and again when it was changed since.
public struct TokenCache: Sendable {
    let directory: String
    /// Smaller data is read again each time, which takes less than a second.
    let smallest: Int

    /// Token files and digests that nobody read for so long are removed when another is written.
    private static let unusedSeconds = 30 * 86_400.0
    /// So long nobody takes to write one.
    private static let unfinishedSeconds = 86_400.0

    init(directory: String, smallest: Int) {
        self.directory = directory
        self.smallest = smallest
    }

    /// `$XDG_CACHE_HOME/lora/tokens`, or `~/.cache/lora/tokens`, for data of 1 MiB or more; nil where there is neither.
    public static var standard: TokenCache? {
        let environment = ProcessInfo.processInfo.environment
        let root = [environment["XDG_CACHE_HOME"], environment["HOME"].map { $0 + "/.cache" }]
            .compactMap(\.self).first { $0.hasPrefix("/") }
        return root.map { TokenCache(directory: $0 + "/lora/tokens", smallest: 1 << 20) }
    }

    /// SHA-256 of `source`; taken from a note if the file was read before and is as it was.
    /// - Throws: `FormatError` when it cannot be read.
    func digest(of source: borrowing OpenFile) throws -> String {
        if let known = note(for: source.state) { return known }
        let start = Date()
        let digest = try Self.computeDigest(of: source)
        // A file that was written to within the clock's last tick may change and keep its time.
        if start.timeIntervalSince1970 - Double(source.state.modified) * 1e-9 > 1 { write(digest, for: source.state) }
        return digest
    }

    /// SHA-256 of `source`, read in pieces.
    static func computeDigest(of source: borrowing OpenFile) throws -> String {
        var hash = SHA256()
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        var offset = 0
        while true {
            let count = try buffer.withUnsafeMutableBytes { bytes in try source.read(into: bytes, at: offset) }
            if count == 0 { return Digest.hexadecimal(hash.finalize()) }
            buffer.withUnsafeBytes { hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: $0[..<count])) }
            offset += count
        }
    }

    /// What names a token file of data with `digest`. Its number is raised when the program makes other tokens of the same
    /// rows, or writes them in another way, so that nobody takes what an older one kept.
    static func key(digest: String, encoder identity: String) -> String {
        Digest.hexadecimal(SHA256.hash(data: Data("lora tokens 1\n\(digest)\n\(identity)".utf8)))
    }

    func path(of key: String) -> String { "\(directory)/\(key).tokens" }

    /// The whole token file of that name; nil where there is none, or a damaged one.
    func tokenFile(_ key: String) -> TokenFile? {
        guard let source = try? OpenFile(path: path(of: key)), let file = try? TokenFile(source),
            file.summary.key == key
        else { return nil }
        if note(for: source.state) != file.summary.digest {
            guard file.isWhole() else { return nil }
            write(file.summary.digest, for: source.state)
        }
        return file
    }

    /// Notes that the token file `key`, just written, needs no check.
    func noteWritten(_ key: String, _ file: TokenFile) {
        guard let source = try? OpenFile(path: path(of: key)) else { return }
        write(file.summary.digest, for: source.state)
    }

    /// Makes the directory, and removes what nobody used for long.
    /// - Throws: when it cannot be made.
    func prepare() throws {
        do {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        } catch {
            throw FormatError("cannot make the directory", file: directory)
        }
        for name in (try? OpenDirectory(path: directory).names()) ?? [] {
            var status = stat()
            let path = "\(directory)/\(name)"
            guard stat(path, &status) == 0 else { continue }
            let used = Double(max(status.st_atim.tv_sec, status.st_mtim.tv_sec))
            let unused = Date().timeIntervalSince1970 - used
            let isUnfinished = name.hasPrefix(ScratchFile.prefix) && unused > Self.unfinishedSeconds
            let isOld = [".tokens", ".digest"].contains(where: name.hasSuffix) && unused > Self.unusedSeconds
            if isUnfinished || isOld { unlink(path) }
        }
    }
}

extension TokenCache {
    /// A digest, and the state of the file that it is of.
    private struct Note: Codable {
        let size: Int
        let modified: Int
        let changed: Int
        let digest: String
    }

    private func notePath(_ state: OpenFile.State) -> String {
        "\(directory)/\(String(state.device, radix: 16))-\(String(state.inode, radix: 16)).digest"
    }

    private func note(for state: OpenFile.State) -> String? {
        guard let bytes = try? MappedFile.contents(path: notePath(state), limit: 4096),
            let note = try? JSONDecoder().decode(Note.self, from: Data(bytes)), note.size == state.size,
            note.modified == state.modified, note.changed == state.changed, Digest.isHexadecimal(note.digest)
        else { return nil }
        return note.digest
    }

    private func write(_ digest: String, for state: OpenFile.State) {
        let note = Note(size: state.size, modified: state.modified, changed: state.changed, digest: digest)
        guard let json = try? JSONEncoder().encode(note) else { return }
        // A directory that cannot be written only means reading again next time.
        try? FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        try? AtomicFile.write([UInt8](json), to: notePath(state))
    }
}
