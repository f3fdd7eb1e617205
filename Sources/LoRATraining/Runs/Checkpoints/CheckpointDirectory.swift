internal import Glibc
internal import LoRAFormats

/// Where a run keeps its checkpoints, which no other process uses meanwhile: a directory `step-N` for each, that is
/// there whole or not at all.
final class CheckpointDirectory {
    let path: String
    private let lock: FileLock

    private static let prefix = "step-"

    /// Whether there is a directory at `path`.
    static func exists(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// Makes the directory when it is not there, and removes what a killed process left half written.
    /// - Throws: `FormatError` when another process uses it, or it cannot be made.
    init(path: String) throws {
        var end = path[...]
        while end.count > 1, end.hasSuffix("/") { end = end.dropLast() }
        self.path = String(end)
        lock = try FileLock(
            claiming: self.path, refusal: "another run keeps its checkpoints here; name another --checkpoints")
        for name in try names() where name.hasPrefix(".lora-") && name.hasSuffix(".tmp") {
            Self.remove("\(self.path)/\(name)")
        }
    }

    /// The directory is of no use without a checkpoint in it.
    deinit { rmdir(path) }

    /// Steps that there are checkpoints of, the latest first.
    func steps() throws -> [Int] { Self.steps(names: try names()) }

    /// The directory of the latest checkpoint in the directory at `path`; nil when there is none.
    static func latest(in path: String) -> String? {
        guard let directory = try? OpenDirectory(path: path), let names = try? directory.names() else { return nil }
        return steps(names: names).first.map { "\(path)/\(prefix)\($0)" }
    }

    private static func steps(names: [String]) -> [Int] {
        names.compactMap { name in
            guard name.hasPrefix(Self.prefix), let step = Int(name.dropFirst(Self.prefix.count)), step >= 0,
                name == Self.prefix + String(step)
            else { return nil }
            return step
        }.sorted(by: >)
    }

    func path(ofStep step: Int) -> String { "\(path)/\(Self.prefix)\(step)" }

    /// Writes the checkpoint of `step`; of the others the latest before it is kept.
    /// - Parameter fill: writes the files into the directory at its path.
    /// - Throws: `FormatError`; earlier checkpoints are then still in place.
    func write(step: Int, _ fill: (_ directory: String) throws -> Void) throws {
        let temporary = "\(path)/.lora-\(String(UInt64.random(in: .min ... .max), radix: 16)).tmp"
        let target = path(ofStep: step)
        try check("cannot make a directory") { mkdir(temporary, 0o777) }
        defer { Self.remove(temporary) }
        do {
            try fill(temporary)
        } catch let error as FormatError {
            throw FormatError("cannot write a checkpoint: \(error.message)", file: path)
        }
        // One that is there is damaged: the run went on from an earlier one.
        Self.remove(target)
        try check("cannot move a checkpoint into place") { rename(temporary, target) }
        try AtomicFile.flush(directory: path)
        let steps = try steps()
        let earlier = steps.first { $0 < step }
        for other in steps where other != step && other != earlier { Self.remove(path(ofStep: other)) }
    }

    /// Removes all checkpoints.
    func removeAll() throws {
        for step in try steps() { Self.remove(path(ofStep: step)) }
    }

    private func check(_ action: String, _ body: () -> Int32) throws {
        do { try SystemCall.check(action, body) } catch { throw error.located(in: path) }
    }

    private func names() throws -> [String] {
        try FormatError.relocating(in: path) { try OpenDirectory(path: path).names() }
    }

    /// Removes the directory and the files in it, when it is there. Renamed first: half a checkpoint has no name of one.
    private static func remove(_ directory: String) {
        var doomed = directory
        if !directory.hasSuffix(".tmp"), let slash = directory.lastIndex(of: "/") {
            let hidden = "\(directory[...slash]).lora-\(directory[directory.index(after: slash)...]).tmp"
            if rename(directory, hidden) == 0 { doomed = hidden }
        }
        for name in (try? OpenDirectory(path: doomed).names()) ?? [] { unlink("\(doomed)/\(name)") }
        rmdir(doomed)
    }
}
