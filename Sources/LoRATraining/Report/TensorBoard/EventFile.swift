internal import Foundation
internal import Glibc
internal import LoRAFormats

/// A file of scalars that TensorBoard shows while they are being written.
///
/// It holds TFRecords (length, masked CRC-32C of the length, data, masked CRC-32C of the data; little-endian) of `Event`
/// messages (tensorflow/core/util/event.proto, field numbers below). A run that goes on writes another file beside those
/// that are there; its first event says from which step on, and TensorBoard forgets what earlier files say of that step
/// and later ones.
final class EventFile {
    let path: String
    private let descriptor: Int32

    private enum Field {
        enum Event { static let (wallTime, step, fileVersion, summary, sessionLog) = (1, 2, 3, 5, 7) }
        enum Summary { static let value = 1 }
        enum Value { static let (tag, simpleValue) = (1, 2) }
        enum SessionLog { static let status = 1 }
    }
    /// `SessionLog.SessionStatus`.
    private static let sessionStart: UInt64 = 1

    /// Creates a file in `directory`.
    /// - Parameter firstStep: the first step that will be written; from 1.
    /// - Throws: `FormatError` with the system's reason.
    init(directory: String, firstStep: Int, wallTime: Double = Date().timeIntervalSince1970) throws {
        (path, descriptor) = try Self.create(in: directory, wallTime: wallTime)
        // From this version on, a start of a session makes readers forget later steps.
        var version = Self.event(wallTime: wallTime, step: 0)
        version.add(Field.Event.fileVersion, "brain.Event:2")
        try append(version)
        var session = ProtobufMessage()
        session.add(Field.SessionLog.status, varint: Self.sessionStart)
        var start = Self.event(wallTime: wallTime, step: firstStep)
        start.add(Field.Event.sessionLog, session)
        try append(start)
    }

    deinit { close(descriptor) }

    /// Appends the scalars of one step as one event.
    /// - Throws: `FormatError` with the system's reason, such as "No space left on device".
    func write(step: Int, _ scalars: [(tag: String, value: Double)], wallTime: Double = Date().timeIntervalSince1970)
        throws
    {
        var summary = ProtobufMessage()
        for (tag, value) in scalars {
            var entry = ProtobufMessage()
            entry.add(Field.Value.tag, tag)
            entry.add(Field.Value.simpleValue, float: Float(value))
            summary.add(Field.Summary.value, entry)
        }
        var event = Self.event(wallTime: wallTime, step: step)
        event.add(Field.Event.summary, summary)
        try append(event)
    }

    private static func event(wallTime: Double, step: Int) -> ProtobufMessage {
        var event = ProtobufMessage()
        event.add(Field.Event.wallTime, double: wallTime)
        event.add(Field.Event.step, varint: UInt64(step))
        return event
    }

    private func append(_ message: ProtobufMessage) throws {
        let record = Self.record(message.bytes)
        try FormatError.relocating(in: path) {
            try record.withUnsafeBytes { try SystemCall.writeAll($0, to: descriptor) }
        }
    }

    /// `data` as TFRecord frames it.
    static func record(_ data: [UInt8]) -> [UInt8] {
        let length = littleEndian(UInt64(data.count))
        return length + littleEndian(CRC32C.masked(length)) + data + littleEndian(CRC32C.masked(data))
    }

    private static func littleEndian(_ value: some FixedWidthInteger) -> [UInt8] {
        withUnsafeBytes(of: value.littleEndian) { Array($0) }
    }

    /// TensorBoard reads the files of a directory in the order of their names; one that is there is never written to.
    private static func create(in directory: String, wallTime: Double) throws -> (path: String, descriptor: Int32) {
        let name = "events.out.tfevents.\(Int(wallTime)).\(hostName).\(getpid())"
        let first = directory.hasSuffix("/") ? directory + name : "\(directory)/\(name)"
        var (path, number) = (first, 0)
        while access(path, F_OK) == 0 {
            number += 1
            path = "\(first).\(number)"
        }
        return try FormatError.relocating(in: path) { [path] in
            let descriptor = try SystemCall.check("cannot create TensorBoard's event file") {
                open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0o666)
            }
            return (path, descriptor)
        }
    }

    private static var hostName: String {
        var name = [CChar](repeating: 0, count: 256)
        guard gethostname(&name, name.count - 1) == 0 else { return "localhost" }
        let text = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return text.isEmpty || text.contains("/") ? "localhost" : text
    }
}
