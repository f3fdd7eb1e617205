internal import Crypto
internal import LoRAFormats
internal import OrderedCollections

/// The numbers of a checkpoint: arrays of f32 in one safetensors file, written and read without a copy in memory.
struct CheckpointArrays {
    /// Each (count).
    let arrays: [(name: String, values: UnsafeMutablePointer<Float>)]
    let count: Int

    private var byteCount: Int { count * MemoryLayout<Float>.stride }

    /// - Returns: the SHA-256 of the file.
    /// - Throws: `FormatError`.
    func write(to path: String) throws -> String {
        var file = try AtomicFile(path: path)
        var hash = SHA256()
        try header.withUnsafeBytes { bytes in
            hash.update(bufferPointer: bytes)
            try file.write(bytes)
        }
        for array in arrays {
            let bytes = UnsafeRawBufferPointer(start: array.values, count: byteCount)
            hash.update(bufferPointer: bytes)
            try file.write(bytes)
        }
        try file.commit()
        return Digest.hexadecimal(hash.finalize())
    }

    /// The length and the text of the safetensors header.
    private var header: [UInt8] {
        var members: OrderedDictionary<String, JSONValue> = [:]
        for (index, array) in arrays.enumerated() {
            members[array.name] = .object([
                "dtype": .string(SafetensorsType.f32.rawValue), "shape": .array([.integer(Int64(count))]),
                "data_offsets": .array([
                    .integer(Int64(index * byteCount)), .integer(Int64((index + 1) * byteCount)),
                ]),
            ])
        }
        var text = Array(JSONValue.object(members).serialized().utf8)
        text.append(contentsOf: repeatElement(UInt8(ascii: " "), count: (8 - text.count % 8) % 8))
        return withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) } + text
    }

    /// Fills the arrays from a file that `write` made.
    /// - Throws: `FormatError` when the file is not the one of `digest`, or holds other arrays.
    func read(from path: String, digest: String) throws {
        let file = try SafetensorsFile(path: path)
        try FormatError.relocating(in: path) {
            let found = file.withBytes { Digest.hexadecimal(of: $0) }
            guard found == digest else {
                throw FormatError("is damaged: its SHA-256 is \(found), expected \(digest)")
            }
            let shapes = file.tensors.map { "\($0.name) \($0.type.rawValue) \($0.shape)" }
            let expected = arrays.map { "\($0.name) \(SafetensorsType.f32.rawValue) \([count])" }
            guard shapes == expected else {
                throw FormatError(
                    "holds \(shapes.joined(separator: ", ")), expected \(expected.joined(separator: ", "))")
            }
            for (array, tensor) in zip(arrays, file.tensors) {
                file.withBytes(of: tensor) { bytes in
                    UnsafeMutableRawPointer(array.values).copyMemory(
                        from: bytes.baseAddress ?? UnsafeRawPointer(array.values), byteCount: bytes.count)
                }
            }
        }
    }
}
