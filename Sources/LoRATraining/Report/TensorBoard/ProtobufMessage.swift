/// A message in Protocol Buffers' wire format (https://protobuf.dev/programming-guides/encoding): the few kinds of field
/// that events need.
struct ProtobufMessage {
    private(set) var bytes: [UInt8] = []

    /// An int64, uint64 or enum.
    mutating func add(_ field: Int, varint value: UInt64) {
        append(tag: field, wireType: 0)
        append(value)
    }

    mutating func add(_ field: Int, double value: Double) {
        append(tag: field, wireType: 1)
        appendFixed(value.bitPattern)
    }

    mutating func add(_ field: Int, float value: Float) {
        append(tag: field, wireType: 5)
        appendFixed(value.bitPattern)
    }

    mutating func add(_ field: Int, _ text: String) { add(field, Array(text.utf8)) }

    mutating func add(_ field: Int, _ message: ProtobufMessage) { add(field, message.bytes) }

    private mutating func add(_ field: Int, _ content: [UInt8]) {
        append(tag: field, wireType: 2)
        append(UInt64(content.count))
        bytes += content
    }

    private mutating func append(tag field: Int, wireType: UInt64) { append(UInt64(field) << 3 | wireType) }

    private mutating func append(_ varint: UInt64) {
        var rest = varint
        while rest > 0x7F {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    private mutating func appendFixed(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
    }
}
