/// A cursor over bytes in which every read is checked against the end and every error carries the byte offset.
///
/// The bytes belong to the caller and must outlive the reader.
struct ByteReader {
    let bytes: UnsafeRawBufferPointer
    /// Of the next byte, from the beginning of `bytes`.
    private(set) var offset: Int

    init(_ bytes: UnsafeRawBufferPointer, at offset: Int = 0) {
        precondition(offset >= 0 && offset <= bytes.count, "offset \(offset) outside \(bytes.count) bytes")
        self.bytes = bytes
        self.offset = offset
    }

    var remaining: Int { bytes.count - offset }

    /// The next `count` bytes.
    mutating func take(_ count: Int, _ what: @autoclosure () -> String) throws(FormatError) -> UnsafeRawBufferPointer {
        guard count >= 0, count <= remaining else {
            throw FormatError(
                "\(what()) at byte \(offset) needs \(count) bytes, but \(remaining) remain; the file is "
                    + "truncated or damaged"
            )
        }
        defer { offset += count }
        return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
    }

    /// A little-endian number.
    mutating func integer<Value: FixedWidthInteger>(
        _ type: Value.Type, _ what: @autoclosure () -> String
    ) throws(FormatError) -> Value {
        Value(littleEndian: try take(MemoryLayout<Value>.size, what()).loadUnaligned(as: Value.self))
    }

    /// A little-endian unsigned 64-bit number that must fit `0...limit`.
    mutating func count(_ what: @autoclosure () -> String, limit: Int) throws(FormatError) -> Int {
        let start = offset
        let value = try integer(UInt64.self, what())
        guard let count = Int(exactly: value), count <= limit else {
            throw FormatError(
                "\(what()) at byte \(start) is \(value), but at most \(limit) can be there; the file is damaged")
        }
        return count
    }

    /// UTF-8 text of `count` bytes.
    mutating func text(_ count: Int, _ what: @autoclosure () -> String) throws(FormatError) -> String {
        let start = offset
        let utf8 = try take(count, what())
        guard let text = String(validating: utf8, as: UTF8.self) else {
            throw FormatError("\(what()) at byte \(start) is not UTF-8")
        }
        return text
    }
}
