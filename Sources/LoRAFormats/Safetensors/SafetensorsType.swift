/// A type of tensor elements in a safetensors file; raw values are the file's names.
public enum SafetensorsType: String, Sendable, CaseIterable {
    case f64 = "F64"
    case f32 = "F32"
    case f16 = "F16"
    case bf16 = "BF16"
    case i64 = "I64"
    case i32 = "I32"
    case i16 = "I16"
    case i8 = "I8"
    case u64 = "U64"
    case u32 = "U32"
    case u16 = "U16"
    case u8 = "U8"
    case bool = "BOOL"
    case f8e4m3 = "F8_E4M3"
    case f8e5m2 = "F8_E5M2"

    /// Bytes of an element.
    public var elementBytes: Int {
        switch self {
        case .f64, .i64, .u64: 8
        case .f32, .i32, .u32: 4
        case .f16, .bf16, .i16, .u16: 2
        case .i8, .u8, .bool, .f8e4m3, .f8e5m2: 1
        }
    }

    /// Bytes of a tensor of that shape; `nil` for a negative dimension or an overflow.
    func byteCount(of shape: [Int]) -> Int? {
        var count = elementBytes
        for size in shape {
            let (product, overflow) = count.multipliedReportingOverflow(by: size)
            if size < 0 || overflow { return nil }
            count = product
        }
        return count
    }

    /// The values of `bytes` as floats; `nil` when this is no type of 16- or 32-bit floats.
    public func floats(_ bytes: UnsafeRawBufferPointer) -> [Float]? {
        var floats = [Float](repeating: 0, count: bytes.count / elementBytes)
        return floats.withUnsafeMutableBufferPointer { writeFloats(bytes, to: $0) } ? floats : nil
    }

    /// Writes the values of `bytes` to `out`, which has room for them.
    /// - Returns: false when this is no type of 16- or 32-bit floats; nothing is written then.
    func writeFloats(_ bytes: UnsafeRawBufferPointer, to out: UnsafeMutableBufferPointer<Float>) -> Bool {
        let count = bytes.count / elementBytes
        // Release builds do not check indices of pointers.
        precondition(count <= out.count, "\(count) values, room for \(out.count)")
        // Loops of stores to one pointer become vectors, appending to an array does not.
        switch self {
        case .f32:
            for index in 0..<count {
                let bits = bytes.loadUnaligned(fromByteOffset: 4 * index, as: UInt32.self)
                out[index] = Float(bitPattern: UInt32(littleEndian: bits))
            }
        case .bf16:
            for index in 0..<count {
                let half = bytes.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self)
                out[index] = Float(bitPattern: UInt32(UInt16(littleEndian: half)) << 16)
            }
        case .f16:
            for index in 0..<count {
                let half = bytes.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self)
                out[index] = Float(Float16(bitPattern: UInt16(littleEndian: half)))
            }
        default: return false
        }
        return true
    }

    /// The bytes of `floats`, rounded to nearest, ties to even; `nil` when this is no type of 16- or 32-bit floats.
    func bytes(_ floats: UnsafeBufferPointer<Float>) -> [UInt8]? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(floats.count * elementBytes)
        func append<Value: FixedWidthInteger>(_ value: Value) {
            withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
        }
        switch self {
        case .f32: for value in floats { append(value.bitPattern) }
        case .f16: for value in floats { append(Float16(value).bitPattern) }
        case .bf16: for value in floats { append(Self.bf16(value)) }
        default: return nil
        }
        return bytes
    }

    private static func bf16(_ value: Float) -> UInt16 {
        let bits = value.bitPattern
        // A NaN whose payload sits in the low half must not round to infinity.
        if value.isNaN { return UInt16(bits >> 16) | 0x40 }
        return UInt16((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)
    }
}
