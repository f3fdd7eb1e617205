import Crypto
import Glibc

/// The records of a `.undo` file, which lead from a file's present state back to earlier ones.
public struct UndoFile: Sendable {
    /// Where a record stands.
    struct Place: Sendable {
        let record: UndoRecord
        let stream: Range<Int>
        let range: Range<Int>
    }

    public let path: String
    let map: MappedFile
    /// The oldest first.
    let places: [Place]

    /// The record of the file at `path` is beside it.
    public static func path(for path: String) -> String { path + ".undo" }

    /// The path behind symbolic links: a file and its record are found by any of their names.
    /// - Throws: `FormatError` when there is no such file.
    public static func resolved(_ path: String) throws -> String {
        guard let resolved = realpath(path, nil) else {
            throw SystemCall.failure("cannot find the file", code: errno).located(in: path)
        }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    /// - Returns: nil when there is no such file.
    /// - Throws: `FormatError` for a file that is none, or damaged.
    public init?(path: String) throws {
        if access(path, F_OK) != 0, errno == ENOENT { return nil }
        let map = try MappedFile(path: path)
        self.path = path
        self.map = map
        places = try FormatError.relocating(in: path) {
            try withExtendedLifetime(map) { try Self.read(map.bytes) }
        }
    }

    private static func read(_ bytes: UnsafeRawBufferPointer) throws -> [Place] {
        var places: [Place] = []
        var end = bytes.count
        while end > 0 {
            guard end >= UndoRecord.footerSize else {
                throw FormatError("no undo record ends at byte \(end); the file is damaged")
            }
            var reader = ByteReader(bytes, at: end - UndoRecord.footerSize)
            let room = end - UndoRecord.footerSize
            let streamCount = try reader.count("the length of a stream", limit: room)
            let textCount = try reader.count(
                "the length of a text", limit: min(room - streamCount, UndoRecord.maximumText))
            guard try reader.integer(UInt64.self, "the magic number") == UndoRecord.magic else {
                throw FormatError("no undo record ends at byte \(end); the file is damaged or something else")
            }
            let text = UnsafeRawBufferPointer(rebasing: bytes[room - textCount..<room])
            let record = try UndoRecord(json: try JSONValue(parsing: text))
            let start = room - textCount - streamCount
            places.append(
                Place(record: record, stream: start..<start + streamCount, range: start..<end))
            end = start
        }
        return places.reversed()
    }

    // MARK: Choosing a record

    /// The newest replacement that led to `state`.
    func place(leadingTo state: FileState) -> Place? { places.last { $0.record.after == state } }

    /// How many bytes of the file lead back from `state`: records of later replacements that never happened, or were
    /// undone, do not count.
    /// - Throws: `FormatError` when no record knows `state`.
    func length(leadingTo state: FileState) throws -> Int {
        if let place = place(leadingTo: state) { return place.range.upperBound }
        if let place = places.last(where: { $0.record.before == state }) { return place.range.lowerBound }
        throw FormatError(
            "belongs to another file: none of its \(places.count) records knows SHA-256 \(state.digest); "
                + "move it away", file: path)
    }

    // MARK: Undoing

    /// Puts the file at `path`, which this file is for, back into its state before the last replacement, atomically, and
    /// cuts the record off.
    /// - Returns: what was undone.
    /// - Throws: `FormatError` when there is nothing to undo or a file is damaged; the file is then as it was.
    @discardableResult
    public static func restore(path: String) throws -> UndoRecord {
        let path = try resolved(path)
        let map = try MappedFile(path: path)
        let lock = try FileLock(path: path, identity: map.identity)
        guard let undo = try UndoFile(path: self.path(for: path)) else {
            throw FormatError("nothing to undo: there is no \(self.path(for: path))", file: path)
        }
        let state = FileState(of: map)
        guard let place = undo.place(leadingTo: state) else {
            _ = try undo.length(leadingTo: state)
            throw FormatError("nothing to undo: the file is as it was before the merge", file: path)
        }
        var output = try AtomicFile(path: path)
        try output.reserve(place.record.before.size)
        try FormatError.relocating(in: undo.path) { try undo.rebuild(place, from: map, into: &output) }
        try FileLock.check(path: path, identity: map.identity)
        try output.commit()
        try undo.cut(at: place.range.lowerBound)
        _ = consume lock
        return place.record
    }

    /// Writes the earlier file, and checks it.
    private func rebuild(_ place: Place, from later: MappedFile, into output: inout AtomicFile) throws {
        let packed = try InflateStream(UnsafeRawBufferPointer(rebasing: map.bytes[place.stream]))
        var hash = SHA256()
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        for segment in place.record.segments {
            for start in stride(from: 0, to: segment.count, by: buffer.count) {
                let count = min(buffer.count, segment.count - start)
                try buffer.withUnsafeMutableBytes { bytes in
                    let part = UnsafeMutableRawBufferPointer(rebasing: bytes[..<count])
                    switch segment {
                    case .literal: try packed.read(into: part)
                    case .copy(let offset, _):
                        let range = offset + start..<offset + start + count
                        part.copyMemory(from: UnsafeRawBufferPointer(rebasing: later.bytes[range]))
                        later.releasePages(range)
                    case .change(let offset, _):
                        try packed.read(into: part)
                        let range = offset + start..<offset + start + count
                        for index in 0..<count { part[index] ^= later.bytes[range.lowerBound + index] }
                        later.releasePages(range)
                    }
                    hash.update(bufferPointer: UnsafeRawBufferPointer(part))
                    try output.write(UnsafeRawBufferPointer(part))
                    let read = place.stream.lowerBound + packed.position
                    map.releasePages(max(place.stream.lowerBound, read - 2 * count)..<read)
                }
            }
        }
        let digest = Digest.hexadecimal(hash.finalize())
        guard digest == place.record.before.digest else {
            throw FormatError(
                "the record is damaged: what it restores has SHA-256 \(digest), expected \(place.record.before.digest)")
        }
    }

    /// Leaves only the first `count` bytes: one step of the file system, so the file is whole at any moment.
    private func cut(at count: Int) throws {
        try FormatError.relocating(in: path) {
            if count == 0 {
                try SystemCall.check("cannot remove the file") { unlink(path) }
            } else {
                try SystemCall.check("cannot shorten the file") { truncate(path, off_t(count)) }
            }
        }
    }
}
