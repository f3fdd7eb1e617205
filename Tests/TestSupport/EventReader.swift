/// Reads TensorBoard's event files by their documentation, sharing no code with the writer: frames with bitwise
/// checksums, and Protocol Buffers' wire format.
public struct EventReader {
    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    public struct Event: Sendable {
        public var wallTime = 0.0
        public var step = 0
        public var fileVersion: String?
        /// `SessionLog.SessionStatus`; 1 is a start.
        public var sessionStatus: Int?
        public var scalars: [(tag: String, value: Float)] = []
    }

    private var bytes: ArraySlice<UInt8>

    /// All events of a file's bytes.
    /// - Throws: `Failure` for a wrong checksum, a frame that is cut off, or a field of a wrong kind.
    public static func events(_ bytes: [UInt8]) throws -> [Event] {
        var reader = EventReader(bytes: bytes[...])
        var events: [Event] = []
        while !reader.bytes.isEmpty { events.append(try event(reader.record())) }
        return events
    }

    private mutating func record() throws -> ArraySlice<UInt8> {
        let length = try take(8)
        guard try Self.integer(take(4)) == UInt64(Self.maskedChecksum(length)) else {
            throw Failure(description: "checksum of a length")
        }
        let data = try take(Int(Self.integer(length)))
        guard try Self.integer(take(4)) == UInt64(Self.maskedChecksum(data)) else {
            throw Failure(description: "checksum of an event")
        }
        return data
    }

    private mutating func take(_ count: Int) throws -> ArraySlice<UInt8> {
        guard count <= bytes.count else { throw Failure(description: "\(count) of \(bytes.count) bytes") }
        defer { bytes = bytes.dropFirst(count) }
        return bytes.prefix(count)
    }

    private static func integer(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    private static func maskedChecksum(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        var checksum: UInt32 = 0xFFFF_FFFF
        for byte in bytes {
            checksum ^= UInt32(byte)
            for _ in 0..<8 { checksum = checksum & 1 == 1 ? (checksum >> 1) ^ 0x82F6_3B78 : checksum >> 1 }
        }
        checksum = ~checksum
        return ((checksum >> 15) | (checksum << 17)) &+ 0xA282_EAD8
    }

    // MARK: Messages

    private enum Value {
        case number(UInt64)
        case bytes(ArraySlice<UInt8>)
    }

    private static func event(_ data: ArraySlice<UInt8>) throws -> Event {
        var event = Event()
        for (field, value) in try fields(data) {
            switch (field, value) {
            case (1, .number(let bits)): event.wallTime = Double(bitPattern: bits)
            case (2, .number(let step)): event.step = Int(step)
            case (3, .bytes(let text)): event.fileVersion = String(decoding: text, as: UTF8.self)
            case (5, .bytes(let summary)):
                for (_, entry) in try fields(summary) { event.scalars.append(try scalar(entry)) }
            case (7, .bytes(let session)):
                for case (1, .number(let status)) in try fields(session) { event.sessionStatus = Int(status) }
            default: throw Failure(description: "field \(field) of an event")
            }
        }
        return event
    }

    private static func scalar(_ value: Value) throws -> (tag: String, value: Float) {
        guard case .bytes(let entry) = value else { throw Failure(description: "a value that is no message") }
        var scalar = (tag: "", value: Float.nan)
        for (field, value) in try fields(entry) {
            switch (field, value) {
            case (1, .bytes(let text)): scalar.tag = String(decoding: text, as: UTF8.self)
            case (2, .number(let bits)): scalar.value = Float(bitPattern: UInt32(truncatingIfNeeded: bits))
            default: throw Failure(description: "field \(field) of a value")
            }
        }
        return scalar
    }

    private static func fields(_ data: ArraySlice<UInt8>) throws -> [(field: Int, value: Value)] {
        var reader = EventReader(bytes: data)
        var fields: [(field: Int, value: Value)] = []
        while !reader.bytes.isEmpty {
            let key = try reader.varint()
            let value: Value =
                switch key & 7 {
                case 0: .number(try reader.varint())
                case 1: .number(integer(try reader.take(8)))
                case 2: .bytes(try reader.take(Int(reader.varint())))
                case 5: .number(integer(try reader.take(4)))
                default: throw Failure(description: "wire type \(key & 7)")
                }
            fields.append((Int(key >> 3), value))
        }
        return fields
    }

    private mutating func varint() throws -> UInt64 {
        var (value, shift): (UInt64, UInt64) = (0, 0)
        while true {
            guard let byte = bytes.popFirst(), shift < 64 else { throw Failure(description: "a varint") }
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return value }
            shift += 7
        }
    }
}
