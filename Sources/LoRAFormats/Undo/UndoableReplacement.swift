import Crypto

/// The replacement of a file by one made from it, in a way that can be undone: the new bytes go to a temporary file, and
/// what the old file had and the new one has not goes to its `.undo` file.
///
/// Both become visible at the end, the record first. Whenever the process dies, the file is the old one or the new one,
/// and the records tell which: those that do not lead to the file's present state are passed over.
public final class UndoableReplacement {
    private let old: MappedFile
    private let path: String
    private let lock: FileLock
    private let before: FileState
    private let names: [String]
    private var file: AtomicFile?
    private var undo: AtomicFile?
    private let deflate: DeflateStream
    private let recordStart: Int
    private var hash = SHA256()
    private var segments: [UndoRecord.Segment] = []
    /// How much of the old file the segments cover.
    private var oldPosition = 0
    /// Bytes of the new file so far.
    private var newPosition = 0

    /// Bytes that are compared at a time.
    private static let part = 1 << 20

    /// - Parameters:
    ///   - old: the file as it was mapped when it was read.
    ///   - byteCount: of the new file: room is made sure of.
    ///   - names: what goes into the file, for people.
    /// - Throws: `FormatError` when another process is replacing the file, there is no room, its directory cannot be
    ///   written, or its `.undo` file belongs to another file.
    public init(of old: MappedFile, byteCount: Int, names: [String]) throws {
        let path = try UndoFile.resolved(old.path)
        self.path = path
        self.old = old
        self.names = names
        lock = try FileLock(path: path, identity: old.identity)
        before = FileState(of: old)
        deflate = try DeflateStream()
        let file = try AtomicFile(path: path)
        try file.reserve(byteCount)
        var undo = try AtomicFile(path: UndoFile.path(for: path))
        if let earlier = try UndoFile(path: UndoFile.path(for: path)) {
            let kept = try earlier.length(leadingTo: before)
            try withExtendedLifetime(earlier.map) {
                try undo.write(UnsafeRawBufferPointer(rebasing: earlier.map.bytes[..<kept]))
            }
        }
        recordStart = undo.count
        self.file = consume file
        self.undo = consume undo
    }

    /// The file's state once it is replaced, from `commit` on.
    public private(set) var after: FileState?

    /// Appends bytes of the new file.
    public func write(_ bytes: UnsafeRawBufferPointer) throws {
        hash.update(bufferPointer: bytes)
        try file?.write(bytes)
        newPosition += bytes.count
    }

    /// The next bytes of the new file will be those of the old one in `range`, which follows all ranges so far.
    public func copies(_ range: Range<Int>) throws {
        try keepLiterally(upTo: range.lowerBound)
        append(.copy(offset: newPosition, count: range.count))
        oldPosition = range.upperBound
    }

    /// The next bytes of the new file will be `new`, as many as the old one has in `range`, which follows all ranges so
    /// far.
    public func changes(_ range: Range<Int>, to new: UnsafeRawBufferPointer) throws {
        precondition(range.count == new.count, "\(new.count) bytes in place of \(range.count)")
        try keepLiterally(upTo: range.lowerBound)
        append(.change(offset: newPosition, count: range.count))
        var difference = [UInt8](repeating: 0, count: min(Self.part, range.count))
        for start in stride(from: 0, to: range.count, by: Self.part) {
            let count = min(Self.part, range.count - start)
            for index in 0..<count {
                difference[index] = old.bytes[range.lowerBound + start + index] ^ new[start + index]
            }
            try difference.withUnsafeBytes { try pack(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
        }
        oldPosition = range.upperBound
    }

    /// Makes the new file the one at the path, and its record the last one beside it.
    /// - Throws: `FormatError`; the old file is then still in place, unless the message says otherwise.
    public func commit() throws {
        try keepLiterally(upTo: old.bytes.count)
        try deflate.write(UnsafeRawBufferPointer(start: nil, count: 0), ends: true) { try self.undo?.write($0) }
        let after = FileState(size: newPosition, digest: Digest.hexadecimal(hash.finalize()))
        let record = UndoRecord(before: before, after: after, names: names, segments: segments)
        let streamCount = (undo?.count ?? 0) - recordStart
        var end = Array(record.json.serialized().utf8)
        let textCount = end.count
        guard textCount <= UndoRecord.maximumText else {
            throw FormatError("\(segments.count) changes are more than a record can hold", file: path)
        }
        end.append(littleEndian: UInt64(streamCount))
        end.append(littleEndian: UInt64(textCount))
        end.append(littleEndian: UndoRecord.magic)
        try undo?.write(end)
        try FileLock.check(path: path, identity: old.identity)
        try undo.take()?.commit()
        try file.take()?.commit()
        self.after = after
    }

    /// Bytes of the old file that no one speaks of go into the record as they are.
    private func keepLiterally(upTo end: Int) throws {
        precondition(oldPosition <= end, "byte \(end) comes after byte \(oldPosition)")
        if oldPosition < end { append(.literal(count: end - oldPosition)) }
        while oldPosition < end {
            let range = oldPosition..<min(end, oldPosition + Self.part)
            try pack(UnsafeRawBufferPointer(rebasing: old.bytes[range]))
            old.releasePages(range)
            oldPosition = range.upperBound
        }
    }

    private func pack(_ bytes: UnsafeRawBufferPointer) throws {
        try deflate.write(bytes) { try self.undo?.write($0) }
    }

    /// Runs of one kind that follow each other in both files are one.
    private func append(_ segment: UndoRecord.Segment) {
        switch (segments.last, segment) {
        case (.literal(let first), .literal(let second)):
            segments[segments.count - 1] = .literal(count: first + second)
        case (.copy(let offset, let first), .copy(let next, let second)) where offset + first == next:
            segments[segments.count - 1] = .copy(offset: offset, count: first + second)
        case (.change(let offset, let first), .change(let next, let second)) where offset + first == next:
            segments[segments.count - 1] = .change(offset: offset, count: first + second)
        default: segments.append(segment)
        }
    }
}
