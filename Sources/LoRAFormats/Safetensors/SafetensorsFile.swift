public import OrderedCollections

/// A safetensors file (https://github.com/huggingface/safetensors), mapped or in memory, validated when it is opened.
public struct SafetensorsFile: Sendable {
    /// Name, type, shape and place of a tensor.
    public struct Tensor: Sendable, Hashable {
        public let name: String
        public let type: SafetensorsType
        /// Outermost dimension first; empty for a single number.
        public let shape: [Int]
        /// From the beginning of the file.
        public let range: Range<Int>
    }

    /// Longer headers are refused, as in the reference implementation.
    static let maximumHeader = 100_000_000

    /// In the order of their data.
    public let tensors: [Tensor]
    /// The `__metadata__` of the header.
    public let metadata: OrderedDictionary<String, String>

    private let storage: ByteStorage
    private let indices: [String: Int]

    /// Maps the file at `path`, which has at most `limit` bytes.
    /// - Throws: `FormatError` with the byte offset or the tensor.
    public init(path: String, limit: Int = .max) throws {
        let map = try MappedFile(path: path, limit: limit)
        self = try FormatError.locating(in: path) { () throws(FormatError) in
            try SafetensorsFile(storage: .mapped(map))
        }
    }

    /// Reads a file that is already in memory, such as an entry of an archive; `name` is for errors.
    /// - Throws: `FormatError` with the byte offset or the tensor.
    public init(_ bytes: OwnedBytes, name: String) throws {
        self = try FormatError.locating(in: name) { () throws(FormatError) in
            try SafetensorsFile(storage: .owned(bytes))
        }
    }

    /// Calls `body` with the whole file, valid until it returns.
    public func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try withExtendedLifetime(storage) { try body(storage.bytes) }
    }

    /// The tensor of that name, if there is one.
    public func tensor(named name: String) -> Tensor? { indices[name].map { tensors[$0] } }

    /// Calls `body` with the tensor's bytes, valid until it returns.
    public func withBytes<Result>(
        of tensor: Tensor, _ body: (UnsafeRawBufferPointer) throws -> Result
    ) rethrows -> Result {
        try withBytes { bytes in
            // Release builds do not check slices of pointers.
            precondition(
                tensor.range.upperBound <= bytes.count,
                "tensor \(tensor.name) ends at \(tensor.range.upperBound), the file at \(bytes.count)")
            return try body(UnsafeRawBufferPointer(rebasing: bytes[tensor.range]))
        }
    }

    /// Lets go of the memory that reading the tensor from a map took; its bytes stay readable.
    public func releasePages(of tensor: Tensor) {
        if case .mapped(let map) = storage { map.releasePages(tensor.range) }
    }

    /// The tensor's values.
    /// - Throws: `FormatError` when its type is not F32, F16 or BF16.
    public func floats(of tensor: Tensor) throws -> [Float] {
        guard let floats = withBytes(of: tensor, { tensor.type.floats($0) }) else { throw Self.noFloats(tensor) }
        return floats
    }

    /// Writes the tensor's values to `out`, which has room for them.
    /// - Throws: `FormatError` when its type is not F32, F16 or BF16.
    public func writeFloats(of tensor: Tensor, to out: UnsafeMutableBufferPointer<Float>) throws {
        guard withBytes(of: tensor, { tensor.type.writeFloats($0, to: out) }) else { throw Self.noFloats(tensor) }
    }

    private static func noFloats(_ tensor: Tensor) -> FormatError {
        FormatError(
            "tensor \(FormatError.quoted(tensor.name)) has type \(tensor.type.rawValue), expected F32, F16 or BF16")
    }

    // MARK: Parsing

    private init(storage: ByteStorage) throws(FormatError) {
        let bytes = storage.bytes
        var reader = ByteReader(bytes)
        let length = try reader.count("the header length", limit: min(Self.maximumHeader, max(0, bytes.count - 8)))
        let text = try reader.take(length, "the header")
        guard text.first == UInt8(ascii: "{") else {
            throw FormatError("the header at byte 8 does not start with '{'; this is no safetensors file")
        }
        let header: JSONValue
        do {
            header = try JSONValue(parsing: text)
        } catch {
            throw FormatError("header from byte 8: \(error)")
        }
        var metadata: OrderedDictionary<String, String> = [:]
        var tensors: [Tensor] = []
        for (name, value) in header.objectValue ?? [:] {
            if name == "__metadata__" {
                metadata = try Self.metadata(value)
            } else {
                tensors.append(try Self.tensor(name, value, dataOffset: reader.offset, dataSize: reader.remaining))
            }
        }
        tensors.sort { ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound) }
        try Self.checkContiguous(tensors, from: reader.offset, to: bytes.count)
        self.storage = storage
        self.metadata = metadata
        self.tensors = tensors
        indices = Dictionary(uniqueKeysWithValues: tensors.enumerated().map { ($1.name, $0) })
    }

    private static func metadata(_ value: JSONValue) throws(FormatError) -> OrderedDictionary<String, String> {
        // MLX writes null for none.
        if value.isNull { return [:] }
        guard let members = value.objectValue else {
            throw FormatError("header: __metadata__ is \(value.kind), expected an object of strings")
        }
        var metadata: OrderedDictionary<String, String> = [:]
        for (key, value) in members {
            guard let text = value.stringValue else {
                throw FormatError(
                    "header: __metadata__ entry \(FormatError.quoted(key)) is \(value.kind), expected a string")
            }
            metadata[key] = text
        }
        return metadata
    }

    private static func tensor(
        _ name: String, _ value: JSONValue, dataOffset: Int, dataSize: Int
    ) throws(FormatError) -> Tensor {
        func failure(_ reason: String) -> FormatError { FormatError("tensor \(FormatError.quoted(name)): \(reason)") }
        guard let members = value.objectValue, Set(members.keys) == ["dtype", "shape", "data_offsets"] else {
            throw failure("expected an object with exactly dtype, shape and data_offsets")
        }
        guard let typeName = value["dtype"]?.stringValue, let type = SafetensorsType(rawValue: typeName) else {
            let known = SafetensorsType.allCases.map(\.rawValue).joined(separator: " ")
            let found = value["dtype"]?.serialized() ?? "none"
            throw failure("dtype \(found.prefix(80)) is unknown, expected one of \(known)")
        }
        guard let shape = integers(value["shape"]), let byteCount = type.byteCount(of: shape) else {
            throw failure("shape is not an array of sizes that can be counted")
        }
        guard let offsets = integers(value["data_offsets"]), offsets.count == 2, offsets[0] <= offsets[1],
            offsets[1] <= dataSize
        else {
            throw failure(
                "data_offsets are not two ascending numbers up to the data's \(dataSize) bytes; the "
                    + "file is truncated or damaged"
            )
        }
        guard offsets[1] - offsets[0] == byteCount else {
            throw failure(
                "data_offsets span \(offsets[1] - offsets[0]) bytes, but \(type.rawValue) \(shape) "
                    + "takes \(byteCount)"
            )
        }
        return Tensor(name: name, type: type, shape: shape, range: dataOffset + offsets[0]..<dataOffset + offsets[1])
    }

    /// The elements of an array of integers that are not negative.
    private static func integers(_ value: JSONValue?) -> [Int]? {
        guard case .array(let elements) = value else { return nil }
        var integers: [Int] = []
        for element in elements {
            guard case .integer(let number) = element, number >= 0 else { return nil }
            integers.append(Int(number))
        }
        return integers
    }

    private static func checkContiguous(_ tensors: [Tensor], from start: Int, to end: Int) throws(FormatError) {
        var position = start
        for tensor in tensors {
            guard tensor.range.lowerBound == position else {
                throw FormatError(
                    "tensor \(FormatError.quoted(tensor.name)) starts at byte \(tensor.range.lowerBound), "
                        + "expected \(position): a gap or an overlap"
                )
            }
            position = tensor.range.upperBound
        }
        guard position == end else {
            throw FormatError("the tensors end at byte \(position), but the file at \(end); it is damaged")
        }
    }
}
