import OrderedCollections

/// A tensor on its way into a safetensors file.
public struct NamedTensor: Sendable, Hashable {
    public let name: String
    public let type: SafetensorsType
    /// Outermost dimension first.
    public let shape: [Int]
    /// Little-endian elements, row by row.
    public let bytes: [UInt8]

    /// A tensor of elements that are already in the file's form.
    /// - Throws: `FormatError` when the bytes do not fit the shape.
    public init(name: String, type: SafetensorsType, shape: [Int], bytes: [UInt8]) throws {
        guard type.byteCount(of: shape) == bytes.count else {
            throw FormatError(
                "tensor \(FormatError.quoted(name)): \(bytes.count) bytes do not fit \(type.rawValue) \(shape)")
        }
        self.name = name
        self.type = type
        self.shape = shape
        self.bytes = bytes
    }

    /// A tensor of `elements` (count = product of `shape`), rounded to `type`: F32, F16 or BF16.
    /// - Throws: `FormatError` when the elements do not fit the shape or the type holds no floats.
    public init(name: String, type: SafetensorsType, shape: [Int], elements: UnsafeBufferPointer<Float>) throws {
        guard let bytes = type.bytes(elements) else {
            throw FormatError("tensor \(FormatError.quoted(name)): floats cannot be written as \(type.rawValue)")
        }
        try self.init(name: name, type: type, shape: shape, bytes: bytes)
    }

    /// A tensor of `elements` (count = product of `shape`), rounded to `type`: F32, F16 or BF16.
    /// - Throws: `FormatError` when the elements do not fit the shape or the type holds no floats.
    public init(name: String, type: SafetensorsType, shape: [Int], elements: [Float]) throws {
        self = try elements.withUnsafeBufferPointer {
            try NamedTensor(name: name, type: type, shape: shape, elements: $0)
        }
    }
}

/// Writes safetensors files; equal content gives equal bytes, in the reference implementation's order.
public enum SafetensorsWriter {
    /// The bytes of a file with `tensors`, ordered by size of element (largest first) and name.
    /// - Throws: `FormatError` when two tensors have one name.
    public static func serialize(_ tensors: [NamedTensor], metadata: [String: String] = ["format": "pt"]) throws
        -> [UInt8]
    {
        let ordered = tensors.sorted { first, second in
            first.type.elementBytes != second.type.elementBytes
                ? first.type.elementBytes > second.type.elementBytes
                : first.name.utf8.lexicographicallyPrecedes(second.name.utf8)
        }
        var header: OrderedDictionary<String, JSONValue> = [:]
        if !metadata.isEmpty {
            let entries = metadata.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
            header["__metadata__"] = .object(
                OrderedDictionary(uniqueKeysWithValues: entries.map { ($0.key, .string($0.value)) }))
        }
        var offset = 0
        for tensor in ordered {
            let end = offset + tensor.bytes.count
            let description: JSONValue = .object([
                "dtype": .string(tensor.type.rawValue), "shape": .array(tensor.shape.map { .integer(Int64($0)) }),
                "data_offsets": .array([.integer(Int64(offset)), .integer(Int64(end))]),
            ])
            guard tensor.name != "__metadata__", header.updateValue(description, forKey: tensor.name) == nil else {
                throw FormatError("two tensors are named \(FormatError.quoted(tensor.name))")
            }
            offset = end
        }
        var text = Array(JSONValue.object(header).serialized().utf8)
        text.append(contentsOf: repeatElement(UInt8(ascii: " "), count: (8 - text.count % 8) % 8))
        var bytes = withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) }
        bytes.reserveCapacity(8 + text.count + offset)
        bytes.append(contentsOf: text)
        for tensor in ordered { bytes.append(contentsOf: tensor.bytes) }
        return bytes
    }
}
