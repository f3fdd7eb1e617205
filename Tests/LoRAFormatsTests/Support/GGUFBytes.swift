/// A GGUF file built byte by byte, so that every field can be wrong.
struct GGUFBytes {
    var magic = Array("GGUF".utf8)
    var version: UInt32 = 3
    var tensorCount: UInt64?
    var keyCount: UInt64?
    /// Whole entries: name, type, value.
    var keys: [[UInt8]] = []
    /// Whole entries: name, dimensions, type, offset.
    var tensors: [[UInt8]] = []
    var data: [UInt8] = []

    static func number<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
        withUnsafeBytes(of: value.littleEndian) { Array($0) }
    }

    static func text(_ text: String) -> [UInt8] { number(UInt64(text.utf8.count)) + Array(text.utf8) }

    static func key(_ name: String, type: UInt32, _ value: [UInt8]) -> [UInt8] { text(name) + number(type) + value }

    /// `dimensions` in the order of the file: the fastest first.
    static func tensor(
        _ name: String, _ dimensions: [UInt64], type: UInt32 = 0, offset: UInt64 = 0, count: UInt32? = nil
    ) -> [UInt8] {
        text(name) + number(count ?? UInt32(dimensions.count)) + dimensions.flatMap { number($0) } + number(type)
            + number(offset)
    }

    var bytes: [UInt8] {
        var bytes = magic + Self.number(version) + Self.number(tensorCount ?? UInt64(tensors.count))
        bytes += Self.number(keyCount ?? UInt64(keys.count)) + keys.flatMap { $0 } + tensors.flatMap { $0 }
        bytes += [UInt8](repeating: 0, count: (32 - bytes.count % 32) % 32)
        return bytes + data
    }
}
