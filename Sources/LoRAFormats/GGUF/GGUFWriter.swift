/// Writes GGUF v3 files, tensor by tensor: only one tensor's bytes need to be in memory at a time.
public struct GGUFWriter {
    /// Takes the next bytes of a tensor.
    public typealias Sink = (UnsafeRawBufferPointer) throws -> Void

    private struct Tensor {
        let name: String
        let type: GGUFTensorType
        let shape: [Int]
        let byteCount: Int
        let write: (Sink) throws -> Void
    }

    private let alignment: Int
    private var keys: Set<String> = [GGUFHeader.alignmentKey]
    private var keyCount = 0
    private var keyBytes: [UInt8] = []
    private var names: Set<String> = []
    private var tensors: [Tensor] = []

    /// - Parameter alignment: Of tensor data, in bytes: a power of two from 8 on. It goes into the file when it is
    ///   not 32.
    public init(alignment: Int = 32) {
        precondition(
            alignment >= 8 && alignment & (alignment - 1) == 0, "alignment \(alignment) is no power of two ≥ 8")
        self.alignment = alignment
        if alignment != 32 {
            keyCount = 1
            Self.append(to: &keyBytes, GGUFHeader.alignmentKey)
            GGUFValue.uint32(UInt32(alignment)).appendTyped(to: &keyBytes)
        }
    }

    /// Adds a key; keys stand in the file in this order. `general.alignment` is the writer's own and is left out here.
    /// - Throws: `FormatError` when the key is there already.
    public mutating func add(_ key: String, _ value: GGUFValue) throws {
        if key == GGUFHeader.alignmentKey { return }
        guard !key.isEmpty, keys.insert(key).inserted else {
            throw FormatError("GGUF key \(FormatError.quoted(key)) is empty or there twice")
        }
        keyCount += 1
        Self.append(to: &keyBytes, key)
        value.appendTyped(to: &keyBytes)
    }

    /// Adds a tensor; `write` is called once while the file is written, and hands over all bytes in parts of any size.
    /// - Parameter shape: Outermost dimension first.
    /// - Throws: `FormatError` when the name is there already, or the shape cannot be written in that type.
    public mutating func addTensor(
        _ name: String, type: GGUFTensorType, shape: [Int], write: @escaping (Sink) throws -> Void
    ) throws {
        let what = "tensor \(FormatError.quoted(name))"
        var count = 1
        for size in shape {
            let (product, overflow) = count.multipliedReportingOverflow(by: size)
            guard size > 0, !overflow else { throw FormatError("\(what): shape \(shape) cannot be written") }
            count = product
        }
        guard (1...4).contains(shape.count), let columns = shape.last, columns.isMultiple(of: type.blockSize),
            let byteCount = type.byteCount(of: count)
        else {
            throw FormatError("\(what): shape \(shape) cannot be written as \(type.name) (blocks of \(type.blockSize))")
        }
        guard !name.isEmpty, names.insert(name).inserted else { throw FormatError("\(what) is unnamed or there twice") }
        tensors.append(Tensor(name: name, type: type, shape: shape, byteCount: byteCount, write: write))
    }

    /// Adds a tensor whose bytes are in memory.
    /// - Throws: `FormatError` as above, or when the bytes do not fit the shape.
    public mutating func addTensor(_ name: String, type: GGUFTensorType, shape: [Int], bytes: [UInt8]) throws {
        try addTensor(name, type: type, shape: shape) { sink in try bytes.withUnsafeBytes { try sink($0) } }
    }

    /// Writes the file, atomically.
    /// - Throws: `FormatError`, and what a tensor's `write` throws; a file that was there is then still in place.
    public func write(to path: String) throws {
        var file = try AtomicFile(path: path)
        try write { try file.write($0) }
        try file.commit()
    }

    /// Hands all bytes of the file to `sink`, in order.
    /// - Throws: `FormatError`, and what `sink` or a tensor's `write` throws.
    public func write(_ sink: Sink) throws {
        var position = 0
        func put(_ bytes: UnsafeRawBufferPointer) throws {
            try sink(bytes)
            position += bytes.count
        }
        func pad() throws {
            let padding = [UInt8](repeating: 0, count: Self.aligned(position, to: alignment) - position)
            try padding.withUnsafeBytes(put)
        }
        try serializedHeader().bytes.withUnsafeBytes(put)
        for tensor in tensors {
            try pad()
            let end = position + tensor.byteCount
            try tensor.write { part in
                guard part.count <= end - position else {
                    throw FormatError("tensor \(FormatError.quoted(tensor.name)) hands over more than its bytes")
                }
                try put(part)
            }
            guard position == end else {
                throw FormatError("tensor \(FormatError.quoted(tensor.name)) lacks \(end - position) bytes")
            }
        }
        try pad()
    }

    /// Bytes of the whole file.
    /// - Throws: `FormatError` when no file can hold them.
    public func byteCount() throws -> Int {
        let header = try serializedHeader()
        let (total, overflow) = Self.aligned(header.bytes.count, to: alignment).addingReportingOverflow(
            header.dataBytes)
        guard !overflow else { throw FormatError("\(header.dataBytes) bytes of tensors are more than a file can hold") }
        return total
    }

    private func serializedHeader() throws -> (bytes: [UInt8], dataBytes: Int) {
        var header: [UInt8] = []
        header.append(littleEndian: GGUFHeader.magic)
        header.append(littleEndian: UInt32(3))
        header.append(littleEndian: UInt64(tensors.count))
        header.append(littleEndian: UInt64(keyCount))
        header.append(contentsOf: keyBytes)
        var offset = 0
        for tensor in tensors {
            Self.append(to: &header, tensor.name)
            header.append(littleEndian: UInt32(tensor.shape.count))
            for size in tensor.shape.reversed() { header.append(littleEndian: UInt64(size)) }
            header.append(littleEndian: tensor.type.rawValue)
            header.append(littleEndian: UInt64(offset))
            let (end, overflow) = offset.addingReportingOverflow(tensor.byteCount)
            guard !overflow, end < Int.max - alignment else {
                throw FormatError("tensor \(FormatError.quoted(tensor.name)) ends beyond what a file can hold")
            }
            offset = Self.aligned(end, to: alignment)
        }
        return (header, offset)
    }

    private static func aligned(_ offset: Int, to alignment: Int) -> Int { (offset + alignment - 1) & -alignment }

    fileprivate static func append(to bytes: inout [UInt8], _ text: String) {
        bytes.append(littleEndian: UInt64(text.utf8.count))
        bytes.append(contentsOf: text.utf8)
    }
}

extension [UInt8] {
    mutating func append<Value: FixedWidthInteger>(littleEndian value: Value) {
        Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
    }
}

extension GGUFValue {
    /// Appends the type number and the value, as in the file.
    fileprivate func appendTyped(to bytes: inout [UInt8]) {
        bytes.append(littleEndian: type.rawValue)
        append(to: &bytes)
    }

    /// Appends the value as in the file, without its type number.
    func append(to bytes: inout [UInt8]) {
        switch self {
        case .uint8(let value): bytes.append(value)
        case .int8(let value): bytes.append(littleEndian: value)
        case .uint16(let value): bytes.append(littleEndian: value)
        case .int16(let value): bytes.append(littleEndian: value)
        case .uint32(let value): bytes.append(littleEndian: value)
        case .int32(let value): bytes.append(littleEndian: value)
        case .float32(let value): bytes.append(littleEndian: value.bitPattern)
        case .bool(let value): bytes.append(value ? 1 : 0)
        case .string(let value): GGUFWriter.append(to: &bytes, value)
        case .uint64(let value): bytes.append(littleEndian: value)
        case .int64(let value): bytes.append(littleEndian: value)
        case .float64(let value): bytes.append(littleEndian: value.bitPattern)
        case .strings(let values):
            Self.appendArray(values, .string, to: &bytes) { GGUFWriter.append(to: &$0, $1) }
        case .float32s(let values):
            Self.appendArray(values, .float32, to: &bytes) { $0.append(littleEndian: $1.bitPattern) }
        case .int32s(let values):
            Self.appendArray(values, .int32, to: &bytes) { $0.append(littleEndian: $1) }
        case .array(let values, let elementType):
            bytes.append(littleEndian: elementType)
            bytes.append(littleEndian: UInt64(values.count))
            for value in values {
                precondition(
                    value.type.rawValue == elementType, "array of type \(elementType) holds \(value.type.rawValue)")
                value.append(to: &bytes)
            }
        }
    }

    private static func appendArray<Element>(
        _ values: [Element], _ type: GGUFValueType, to bytes: inout [UInt8],
        append: (inout [UInt8], Element) -> Void
    ) {
        bytes.append(littleEndian: type.rawValue)
        bytes.append(littleEndian: UInt64(values.count))
        for value in values { append(&bytes, value) }
    }
}
