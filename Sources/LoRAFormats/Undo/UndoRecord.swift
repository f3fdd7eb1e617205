import Crypto
import OrderedCollections

/// One state of a file.
public struct FileState: Sendable, Hashable {
    /// Bytes.
    public let size: Int
    /// SHA-256, 64 hexadecimal digits.
    public let digest: String

    /// The state of a mapped file, read from every byte of it.
    public init(of map: MappedFile) {
        var hash = SHA256()
        withExtendedLifetime(map) {
            for lower in stride(from: 0, to: map.bytes.count, by: 1 << 24) {
                let range = lower..<min(lower + 1 << 24, map.bytes.count)
                hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: map.bytes[range]))
                map.releasePages(range)
            }
        }
        self.init(size: map.bytes.count, digest: Digest.hexadecimal(hash.finalize()))
    }

    init(size: Int, digest: String) {
        self.size = size
        self.digest = digest
    }

    var json: JSONValue { .object(["size": .integer(Int64(size)), "sha256": .string(digest)]) }

    init(json: JSONValue?, _ what: String) throws(FormatError) {
        guard let size = json?["size"]?.intValue, size > 0, let digest = json?["sha256"]?.stringValue,
            Digest.isHexadecimal(digest)
        else { throw FormatError("\(what) has no size and SHA-256; the record is damaged") }
        self.init(size: size, digest: digest)
    }
}

/// How to get the file from before a replacement back from the one after it: one record of a `.undo` file.
///
/// A record is a zlib stream, a JSON text about it, and a footer of 24 bytes: the lengths of stream and text as 64-bit
/// little-endian numbers and `LORAUND1`. Records follow each other, the newest last: a file is read from its end, and
/// undoing one replacement cuts one record off.
public struct UndoRecord: Sendable, Equatable {
    /// A run of bytes of the earlier file, in its order.
    enum Segment: Sendable, Equatable {
        /// They stand in the stream.
        case literal(count: Int)
        /// They stand in the later file.
        case copy(offset: Int, count: Int)
        /// They are the exclusive or of the later file's bytes and the stream's.
        case change(offset: Int, count: Int)

        var count: Int {
            switch self {
            case .literal(let count), .copy(_, let count), .change(_, let count): count
            }
        }
    }

    public let before: FileState
    public let after: FileState
    /// What the replacement put in, for people.
    public let names: [String]
    let segments: [Segment]

    static let magic: UInt64 = 0x3144_4E55_4152_4F4C  // "LORAUND1"
    static let footerSize = 24
    static let maximumText = 64 << 20

    init(before: FileState, after: FileState, names: [String], segments: [Segment]) {
        self.before = before
        self.after = after
        self.names = names
        self.segments = segments
    }

    // MARK: Text

    var json: JSONValue {
        .object([
            "before": before.json, "after": after.json, "names": .array(names.map { .string($0) }),
            "segments": .array(
                segments.map { segment in
                    switch segment {
                    case .literal(let count): .array([.string("literal"), .integer(Int64(count))])
                    case .copy(let offset, let count):
                        .array([.string("copy"), .integer(Int64(count)), .integer(Int64(offset))])
                    case .change(let offset, let count):
                        .array([.string("change"), .integer(Int64(count)), .integer(Int64(offset))])
                    }
                }),
        ])
    }

    /// - Throws: `FormatError` when the segments do not make up the earlier file or reach beyond the later one.
    init(json: JSONValue) throws(FormatError) {
        before = try FileState(json: json["before"], "the file before")
        after = try FileState(json: json["after"], "the file after")
        names = (json["names"]?.arrayValue ?? []).compactMap(\.stringValue)
        var segments: [Segment] = []
        var total = 0
        for (index, value) in (json["segments"]?.arrayValue ?? []).enumerated() {
            let segment = try Self.segment(value, in: after, index)
            let (sum, overflow) = total.addingReportingOverflow(segment.count)
            guard !overflow else { throw FormatError("segment \(index) is too long; the record is damaged") }
            total = sum
            segments.append(segment)
        }
        guard total == before.size else {
            throw FormatError("segments have \(total) bytes, expected \(before.size); the record is damaged")
        }
        self.segments = segments
    }

    private static func segment(_ json: JSONValue, in after: FileState, _ index: Int) throws(FormatError) -> Segment {
        guard let parts = json.arrayValue, let kind = parts.first?.stringValue, parts.count >= 2,
            let count = parts[1].intValue, count > 0
        else { throw FormatError("segment \(index) has no kind and length; the record is damaged") }
        if kind == "literal" { return .literal(count: count) }
        guard ["copy", "change"].contains(kind), parts.count == 3, let offset = parts[2].intValue, offset >= 0,
            count <= after.size, offset <= after.size - count
        else { throw FormatError("segment \(index) lies outside the file; the record is damaged") }
        return kind == "copy" ? .copy(offset: offset, count: count) : .change(offset: offset, count: count)
    }
}
