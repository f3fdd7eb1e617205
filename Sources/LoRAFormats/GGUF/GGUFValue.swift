/// A typed metadata value of a GGUF file.
public enum GGUFValue: Sendable, Hashable {
    case uint8(UInt8), int8(Int8), uint16(UInt16), int16(Int16), uint32(UInt32), int32(Int32), float32(Float)
    case bool(Bool), string(String), uint64(UInt64), int64(Int64), float64(Double)
    /// Arrays hold one element type; strings and numbers in their own cases keep large vocabularies cheap.
    case strings([String]), float32s([Float]), int32s([Int32])
    /// Any other array (never nested), with the type number its elements have in the file.
    case array([GGUFValue], elementType: UInt32)

    /// Any integer that fits `Int`.
    public var intValue: Int? {
        switch self {
        case .uint8(let value): Int(value)
        case .int8(let value): Int(value)
        case .uint16(let value): Int(value)
        case .int16(let value): Int(value)
        case .uint32(let value): Int(value)
        case .int32(let value): Int(value)
        case .uint64(let value): Int(exactly: value)
        case .int64(let value): Int(value)
        default: nil
        }
    }

    /// A floating-point number; doubles are rounded.
    public var floatValue: Float? {
        switch self {
        case .float32(let value): value
        case .float64(let value): Float(value)
        default: nil
        }
    }

    /// A boolean.
    public var boolValue: Bool? { if case .bool(let value) = self { value } else { nil } }
    /// The text of a string.
    public var stringValue: String? { if case .string(let value) = self { value } else { nil } }
}

/// The type numbers of metadata values in the file.
enum GGUFValueType: UInt32 {
    case uint8 = 0
    case int8 = 1
    case uint16 = 2
    case int16 = 3
    case uint32 = 4
    case int32 = 5
    case float32 = 6
    case bool = 7
    case string = 8
    case array = 9
    case uint64 = 10
    case int64 = 11
    case float64 = 12

    /// Bytes of a value; of an array or a string, the least it can take.
    var minimumBytes: Int {
        switch self {
        case .uint8, .int8, .bool: 1
        case .uint16, .int16: 2
        case .uint32, .int32, .float32: 4
        case .string, .uint64, .int64, .float64: 8
        case .array: 12
        }
    }
}

extension GGUFValue {
    /// The type number of this value in the file.
    var type: GGUFValueType {
        switch self {
        case .uint8: .uint8
        case .int8: .int8
        case .uint16: .uint16
        case .int16: .int16
        case .uint32: .uint32
        case .int32: .int32
        case .float32: .float32
        case .bool: .bool
        case .string: .string
        case .uint64: .uint64
        case .int64: .int64
        case .float64: .float64
        case .strings, .float32s, .int32s, .array: .array
        }
    }
}
