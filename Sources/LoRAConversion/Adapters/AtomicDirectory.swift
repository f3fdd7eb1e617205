import Glibc
import LoRAFormats

/// A directory of files that appears at its path whole or not at all: filled beside it under a temporary name, flushed,
/// renamed into place. One that it replaces is moved away just before, and removed after.
enum AtomicDirectory {
    /// Writes `files` as the directory at `path`. A directory that is there is replaced when it is empty, or holds
    /// nothing but files of these names.
    /// - Throws: `FormatError`; what was there is then still in place.
    static func write(_ files: [(name: String, bytes: [UInt8])], to path: String) throws {
        let target = try resolve(path)
        let existing = try entries(target, path)
        let surplus = (existing ?? []).subtracting(files.map(\.name)).sorted()
        guard surplus.isEmpty else {
            let names = surplus.prefix(5).map { FormatError.quoted($0) }.joined(separator: ", ")
            throw FormatError(
                "holds other files (\(names)\(surplus.count > 5 ? "…" : "")); name a new or an empty directory",
                file: path)
        }
        let temporary = parent(of: target) + "/.lora-\(String(UInt64.random(in: .min ... .max), radix: 16)).tmp"
        try check("cannot make a directory", path) { mkdir(temporary, 0o777) }
        defer { remove(temporary) }
        do {
            for file in files { try AtomicFile.write(file.bytes, to: "\(temporary)/\(file.name)") }
        } catch let error as FormatError {
            throw FormatError(error.message, file: path)
        }
        let isReplaced = !(existing ?? []).isEmpty
        let old = temporary + ".old"
        if isReplaced {
            try check("cannot move the old directory away", path) { rename(target, old) }
        }
        do {
            try check("cannot move the finished directory into place", path) { rename(temporary, target) }
        } catch {
            if isReplaced { rename(old, target) }
            throw error
        }
        if isReplaced { remove(old) }
        let directory = parent(of: target)
        try AtomicFile.flush(directory: directory.isEmpty ? "/" : directory)
    }

    /// The path without a slash at its end, behind symbolic links.
    private static func resolve(_ path: String) throws -> String {
        guard !path.isEmpty, !path.utf8.contains(0) else { throw FormatError("is not a path to write to", file: path) }
        guard let resolved = realpath(path, nil) else {
            var end = path[...]
            while end.count > 1, end.hasSuffix("/") { end = end.dropLast() }
            return String(end)
        }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    private static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "" : String(path[..<slash])
    }

    /// What is in the directory; nil when there is none.
    private static func entries(_ target: String, _ path: String) throws -> Set<String>? {
        var status = stat()
        guard stat(target, &status) == 0 else { return nil }
        guard status.st_mode & S_IFMT == S_IFDIR, let directory = opendir(target) else {
            throw FormatError("is a file, or a directory that cannot be read; name a new directory", file: path)
        }
        defer { closedir(directory) }
        var names: Set<String> = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.insert(name) }
        }
        return names
    }

    private static func check(_ action: String, _ path: String, _ body: () -> Int32) throws {
        guard body() != 0 else { return }
        throw FormatError("\(action): \(String(cString: strerror(errno)))", file: path)
    }

    /// Removes the directory and the files in it, when it is still there.
    private static func remove(_ directory: String) {
        for name in (try? entries(directory, directory)) ?? [] { unlink("\(directory)/\(name)") }
        rmdir(directory)
    }
}
