import Foundation
import LoRAFormats

/// A directory that appears at its path whole or not at all: filled under another name beside it, then renamed.
///
/// An instance that goes away without `commit()` removes what was filled.
struct StagedDirectory: ~Copyable {
    /// Where to put the files until then.
    let temporaryPath: String
    private let path: String
    private var isCommitted = false

    /// - Throws: `FormatError` when something is at the path already, or nothing can be created beside it.
    init(path: String) throws {
        (self.path, temporaryPath) = try Self.create(for: path)
    }

    private static func create(for path: String) throws -> (path: String, temporaryPath: String) {
        let (url, manager) = (URL(filePath: path).standardizedFileURL, FileManager.default)
        if manager.fileExists(atPath: path), (try? manager.contentsOfDirectory(atPath: path))?.isEmpty != true {
            throw FormatError("exists already; name a new directory, or an empty one", file: path)
        }
        let name = ".lora-\(String(UInt64.random(in: .min ... .max), radix: 16)).tmp"
        let temporary = url.deletingLastPathComponent().appending(path: name).path(percentEncoded: false)
        guard mkdir(temporary, 0o777) == 0 else {
            throw FormatError("cannot create a directory there: \(String(cString: strerror(errno)))", file: path)
        }
        return (url.path(percentEncoded: false), temporary)
    }

    deinit {
        if !isCommitted { try? FileManager.default.removeItem(atPath: temporaryPath) }
    }

    /// Puts the directory in its place.
    /// - Throws: `FormatError` when that is not possible; nothing has changed then.
    consuming func commit() throws {
        guard rename(temporaryPath, path.hasSuffix("/") ? String(path.dropLast()) : path) == 0 else {
            throw FormatError("cannot move the directory into place: \(String(cString: strerror(errno)))", file: path)
        }
        isCommitted = true
        try AtomicFile.flush(directory: URL(filePath: path).deletingLastPathComponent().path(percentEncoded: false))
    }
}
