/// Everything of a GGUF file before its tensor data (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md),
/// read from bytes that may say anything.
struct GGUFHeader {
    static let magic: UInt32 = 0x4655_4747  // "GGUF"
    static let alignmentKey = "general.alignment"
    /// Arrays of the rarer element types take far more memory than file; a vocabulary has at most some 10^5 entries.
    static let maximumBoxedElements = 1 << 22

    private(set) var keys: [String] = []
    private(set) var metadata: [String: GGUFValue] = [:]
    private(set) var tensors: [GGUFTensor] = []
    private(set) var indices: [String: Int] = [:]
    private(set) var alignment = 32
    private(set) var dataOffset = 0

    private var reader: ByteReader

    init(reading bytes: UnsafeRawBufferPointer) throws(FormatError) {
        reader = ByteReader(bytes)
        try readMagicAndVersion()
        // Each tensor takes at least 33 bytes (name 8+1, dimensions 4+8, type 4, offset 8), each key at least 14.
        let tensorCount = try reader.count("the tensor count", limit: max(0, (reader.remaining - 16) / 33))
        let keyCount = try reader.count("the key count", limit: max(0, (reader.remaining - 8) / 14))
        for index in 0..<keyCount { try readKey(index) }
        try readAlignment()
        let places = try (0..<tensorCount).map { (index) throws(FormatError) in try readTensor(index) }
        try place(places)
    }

    private mutating func readMagicAndVersion() throws(FormatError) {
        let magic = try reader.integer(UInt32.self, "the magic number")
        guard magic == Self.magic else {
            throw FormatError(
                "not a GGUF file: the first 4 bytes are 0x\(String(magic.byteSwapped, radix: 16)), expected "
                    + "0x47475546 (\"GGUF\")"
            )
        }
        let version = try reader.integer(UInt32.self, "the version")
        if version == 2 || version == 3 { return }
        if (1...3).contains(version.byteSwapped) {
            throw FormatError("a big-endian GGUF file (version at byte 4); convert it to little-endian")
        }
        throw FormatError("GGUF version \(version) at byte 4 cannot be read, only 2 and 3; convert the model again")
    }

    private mutating func readString(_ what: @autoclosure () -> String) throws(FormatError) -> String {
        let length = try reader.count("the length of \(what())", limit: max(0, reader.remaining - 8))
        return try reader.text(length, what())
    }

    // MARK: Keys

    private mutating func readKey(_ index: Int) throws(FormatError) {
        let start = reader.offset
        let key = try readString("the name of key \(index)")
        guard !key.isEmpty else { throw FormatError("key \(index) at byte \(start) has an empty name") }
        let value = try readValue(try readType("the type of key \(FormatError.quoted(key))"), of: key)
        guard metadata.updateValue(value, forKey: key) == nil else {
            throw FormatError("duplicate key \(FormatError.quoted(key)) at byte \(start)")
        }
        keys.append(key)
    }

    private mutating func readType(_ what: @autoclosure () -> String) throws(FormatError) -> GGUFValueType {
        let start = reader.offset
        let number = try reader.integer(UInt32.self, what())
        guard let type = GGUFValueType(rawValue: number) else {
            throw FormatError("\(what()) at byte \(start) is \(number), expected 0 to 12")
        }
        return type
    }

    private mutating func readValue(_ type: GGUFValueType, of key: String) throws(FormatError) -> GGUFValue {
        var what: String { "the value of key \(FormatError.quoted(key))" }
        switch type {
        case .uint8: return .uint8(try reader.integer(UInt8.self, what))
        case .int8: return .int8(try reader.integer(Int8.self, what))
        case .uint16: return .uint16(try reader.integer(UInt16.self, what))
        case .int16: return .int16(try reader.integer(Int16.self, what))
        case .uint32: return .uint32(try reader.integer(UInt32.self, what))
        case .int32: return .int32(try reader.integer(Int32.self, what))
        case .float32: return .float32(Float(bitPattern: try reader.integer(UInt32.self, what)))
        case .uint64: return .uint64(try reader.integer(UInt64.self, what))
        case .int64: return .int64(try reader.integer(Int64.self, what))
        case .float64: return .float64(Double(bitPattern: try reader.integer(UInt64.self, what)))
        case .string: return .string(try readString(what))
        case .array: return try readArray(of: key)
        case .bool:
            let start = reader.offset
            let byte = try reader.integer(UInt8.self, what)
            guard byte <= 1 else {
                throw FormatError("\(what) at byte \(start) is \(byte), expected 0 or 1 (a boolean)")
            }
            return .bool(byte == 1)
        }
    }

    private mutating func readArray(of key: String) throws(FormatError) -> GGUFValue {
        var what: String { "the array of key \(FormatError.quoted(key))" }
        let start = reader.offset
        let type = try readType("the element type of \(what)")
        guard type != .array else { throw FormatError("\(what) at byte \(start) is nested, which no model uses") }
        let room = max(0, reader.remaining - 8) / type.minimumBytes
        switch type {
        case .string:
            let count = try reader.count("the length of \(what)", limit: room)
            var strings: [String] = []
            strings.reserveCapacity(count)
            for _ in 0..<count { strings.append(try readString("an element of \(what)")) }
            return .strings(strings)
        case .float32:
            let count = try reader.count("the length of \(what)", limit: room)
            let bytes = try reader.take(count * 4, what)
            return .float32s(Self.littleEndian(bytes, UInt32.self).map { Float(bitPattern: $0) })
        case .int32:
            let count = try reader.count("the length of \(what)", limit: room)
            let bytes = try reader.take(count * 4, what)
            return .int32s(Self.littleEndian(bytes, Int32.self))
        default:
            let count = try reader.count("the length of \(what)", limit: min(room, Self.maximumBoxedElements))
            var elements: [GGUFValue] = []
            elements.reserveCapacity(count)
            for _ in 0..<count { elements.append(try readValue(type, of: key)) }
            return .array(elements, elementType: type.rawValue)
        }
    }

    private static func littleEndian<Value: FixedWidthInteger>(
        _ bytes: UnsafeRawBufferPointer, _ type: Value.Type
    ) -> [Value] {
        let stride = MemoryLayout<Value>.size
        return (0..<bytes.count / stride).map {
            Value(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * stride, as: Value.self))
        }
    }

    private mutating func readAlignment() throws(FormatError) {
        guard let value = metadata[Self.alignmentKey] else { return }
        guard let number = value.intValue, (8...1 << 20).contains(number), number & (number - 1) == 0 else {
            throw FormatError("key '\(Self.alignmentKey)' is \(value), expected a power of two from 8 to 1048576")
        }
        alignment = number
    }

    // MARK: Tensors

    /// A tensor whose offset still counts from the beginning of the data; `infoOffset` is where the file describes it.
    private struct Place {
        let name: String
        let type: GGUFTensorType
        let shape: [Int]
        let relativeOffset: Int
        let byteCount: Int
        let infoOffset: Int
    }

    private mutating func readTensor(_ index: Int) throws(FormatError) -> Place {
        let start = reader.offset
        let name = try readString("the name of tensor \(index)")
        var what: String { "tensor \(FormatError.quoted(name)) (described at byte \(start))" }
        guard !name.isEmpty else { throw FormatError("tensor \(index) at byte \(start) has an empty name") }
        guard indices.updateValue(index, forKey: name) == nil else { throw FormatError("\(what) is there twice") }
        let dimensionCount = try reader.integer(UInt32.self, "the number of dimensions of \(what)")
        guard (1...4).contains(dimensionCount) else {
            throw FormatError("\(what) has \(dimensionCount) dimensions, expected 1 to 4")
        }
        var ne: [Int] = []
        var elementCount = 1
        for _ in 0..<dimensionCount {
            let size = try reader.integer(UInt64.self, "a dimension of \(what)")
            let (product, overflow) = elementCount.multipliedReportingOverflow(by: Int(exactly: size) ?? .max)
            guard size > 0, !overflow, product < .max else {
                throw FormatError("\(what) has dimension \(size): zero, or more elements than can be counted")
            }
            elementCount = product
            ne.append(Int(size))
        }
        let number = try reader.integer(UInt32.self, "the type of \(what)")
        guard let type = GGUFTensorType(rawValue: number) else {
            let readable = GGUFTensorType.allCases.map(\.name).joined(separator: " ")
            throw FormatError(
                "\(what) has type number \(number), which cannot be read; convert it to one of \(readable)")
        }
        guard ne[0].isMultiple(of: type.blockSize), let byteCount = type.byteCount(of: elementCount) else {
            throw FormatError(
                "\(what) has rows of \(ne[0]) elements, not whole \(type.name) blocks of \(type.blockSize), or "
                    + "is too large"
            )
        }
        let offset = try reader.count("the offset of \(what)", limit: reader.bytes.count)
        guard offset.isMultiple(of: alignment) else {
            throw FormatError("\(what) starts at data offset \(offset), not a multiple of the alignment \(alignment)")
        }
        return Place(
            name: name, type: type, shape: ne.reversed(), relativeOffset: offset, byteCount: byteCount,
            infoOffset: start)
    }

    /// Checks that the tensors lie inside the file without touching each other.
    private mutating func place(_ places: [Place]) throws(FormatError) {
        let fileSize = reader.bytes.count
        // Both are far below Int.max: the header ends inside the file.
        dataOffset = (reader.offset + alignment - 1) / alignment * alignment
        for place in places {
            // At most twice the file size, then at most Int.max: byteCount is checked before it is added.
            let start = dataOffset + place.relativeOffset
            guard start <= fileSize, place.byteCount <= fileSize - start else {
                throw FormatError(
                    "tensor \(FormatError.quoted(place.name)) (described at byte \(place.infoOffset)) has "
                        + "\(place.byteCount) bytes from byte \(start), but the file ends at "
                        + "\(fileSize); it is truncated or damaged"
                )
            }
            tensors.append(
                GGUFTensor(
                    name: place.name, type: place.type, shape: place.shape, offset: start, byteCount: place.byteCount))
        }
        let ordered = tensors.sorted { $0.offset < $1.offset }
        for (first, second) in zip(ordered, ordered.dropFirst()) where first.offset + first.byteCount > second.offset {
            throw FormatError(
                "tensors \(FormatError.quoted(first.name)) and \(FormatError.quoted(second.name)) overlap at "
                    + "byte \(second.offset)"
            )
        }
    }
}
