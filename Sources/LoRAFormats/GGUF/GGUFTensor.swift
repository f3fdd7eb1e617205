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
    public var blockSize: Int {
        switch self {
        case .f32, .f16, .bf16: 1
        case .q4_0, .q4_1, .q5_0, .q5_1, .q8_0: 32
        case .q4_K, .q5_K, .q6_K: 256
        }
    }

    /// Bytes of a block.
    public var blockBytes: Int {
        switch self {
        case .f32: 4
        case .f16, .bf16: 2
        case .q4_0: 18
        case .q4_1: 20
        case .q5_0: 22
        case .q5_1: 24
        case .q8_0: 34
        case .q4_K: 144
        case .q5_K: 176
        case .q6_K: 210
        }
    }

    /// The name GGML gives it: `F32`, `Q4_1`, `Q4_K`…
    public var name: String { "\(self)".uppercased() }

    /// Bytes of `count` elements; `nil` when they are no whole number of blocks or the number overflows.
    public func byteCount(of count: Int) -> Int? {
        guard count >= 0, count.isMultiple(of: blockSize) else { return nil }
        let (bytes, overflow) = (count / blockSize).multipliedReportingOverflow(by: blockBytes)
        return overflow ? nil : bytes
    }
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
    /// Elements.
    public var count: Int { shape.reduce(1, *) }
}
