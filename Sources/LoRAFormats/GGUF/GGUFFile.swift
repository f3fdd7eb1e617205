/// A type of tensor elements that GGUF files hold; raw values are GGML's numbers.
public enum GGUFTensorType: UInt32, Sendable, CaseIterable {
    case f32 = 0
    case f16 = 1
    case q4_0 = 2
    case q4_1 = 3
    case q5_0 = 6
    case q5_1 = 7
    case q8_0 = 8
    case q4_K = 12
    case q5_K = 13
    case q6_K = 14
    case bf16 = 30

    /// Elements in a block: 1, 32 or 256.
    public var blockSize: Int { fatalError("stub") }
    /// Bytes of a block.
    public var blockBytes: Int { fatalError("stub") }
}

/// A typed metadata value of a GGUF file.
public enum GGUFValue: Sendable, Hashable {
    case uint8(UInt8), int8(Int8), uint16(UInt16), int16(Int16), uint32(UInt32), int32(Int32), float32(Float)
    case bool(Bool), string(String), uint64(UInt64), int64(Int64), float64(Double)
    /// Arrays hold one element type; strings and numbers in their own cases keep large vocabularies cheap.
    case strings([String]), float32s([Float]), int32s([Int32])
    /// Any other array (never nested), with the type number its elements have in the file.
    case array([GGUFValue], elementType: UInt32)

    public var intValue: Int? { fatalError("stub") }
    public var floatValue: Float? { fatalError("stub") }
    public var boolValue: Bool? { fatalError("stub") }
    public var stringValue: String? { fatalError("stub") }
}

/// Name, type, shape and place of a tensor in a GGUF file.
public struct GGUFTensor: Sendable, Hashable {
    public let name: String
    public let type: GGUFTensorType
    /// Outermost dimension first (the reverse of GGUF's `ne`): a weight is (out, in).
    public let shape: [Int]
    /// Of the first byte, from the beginning of the file.
    public let offset: Int
    public let byteCount: Int
    public var count: Int { shape.reduce(1, *) }
}

/// A memory-mapped GGUF v3 file (`MAP_SHARED | PROT_READ`), validated when it is opened.
public final class GGUFFile: Sendable {
    public let path: String
    /// Keys in the order of the file.
    public let keys: [String]
    public let metadata: [String: GGUFValue]
    public let tensors: [GGUFTensor]

    /// - Throws: `FormatError`.
    public init(path: String) throws { fatalError("stub") }

    public func tensor(named name: String) -> GGUFTensor? { fatalError("stub") }

    /// The tensor's bytes in the map; valid as long as this object lives.
    public func bytes(of tensor: GGUFTensor) -> UnsafeRawBufferPointer { fatalError("stub") }
}
