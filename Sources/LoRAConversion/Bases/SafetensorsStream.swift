import LoRAFormats
import OrderedCollections

/// Writes safetensors files tensor by tensor: only a part of one is in memory at a time.
struct SafetensorsStream {
    struct Tensor {
        let name: String
        let type: SafetensorsType
        let shape: [Int]
        /// Hands over all bytes in parts of any size.
        let write: (GGUFWriter.Sink) throws -> Void

        var byteCount: Int { shape.reduce(type.elementBytes, *) }
    }

    let tensors: [Tensor]

    /// - Throws: `FormatError`, and what a tensor's `write` throws; a file that was there is then still in place.
    func write(to path: String) throws {
        var file = try AtomicFile(path: path)
        var header = Array(self.header.serialized().utf8)
        header.append(contentsOf: repeatElement(UInt8(ascii: " "), count: (8 - header.count % 8) % 8))
        try file.write(withUnsafeBytes(of: UInt64(header.count).littleEndian) { Array($0) })
        try file.write(header)
        for tensor in tensors {
            let end = file.count + tensor.byteCount
            try tensor.write { try file.write($0) }
            precondition(file.count == end, "tensor \(tensor.name) ends at \(file.count), expected \(end)")
        }
        try file.commit()
    }

    private var header: JSONValue {
        var members: OrderedDictionary<String, JSONValue> = ["__metadata__": .object(["format": .string("pt")])]
        var offset = 0
        for tensor in tensors {
            let end = offset + tensor.byteCount
            members[tensor.name] = .object([
                "dtype": .string(tensor.type.rawValue), "shape": .array(tensor.shape.map { .integer(Int64($0)) }),
                "data_offsets": .array([.integer(Int64(offset)), .integer(Int64(end))]),
            ])
            offset = end
        }
        return .object(members)
    }

    /// Writes `tensors` as model.safetensors into `directory`, or, when they have more than `shardBytes`, as shards
    /// of at most that many bytes (or one tensor) with their index.
    static func write(_ tensors: [Tensor], into directory: String, shardBytes: Int) throws {
        var shards: [[Tensor]] = [[]]
        var bytes = 0
        for tensor in tensors {
            if bytes + tensor.byteCount > shardBytes, bytes > 0 {
                shards.append([])
                bytes = 0
            }
            shards[shards.count - 1].append(tensor)
            bytes += tensor.byteCount
        }
        guard shards.count > 1 else {
            return try SafetensorsStream(tensors: tensors).write(to: directory + "/model.safetensors")
        }
        let number = { (value: Int) in String(repeating: "0", count: max(0, 5 - "\(value)".count)) + "\(value)" }
        var map: OrderedDictionary<String, JSONValue> = [:]
        for (index, shard) in shards.enumerated() {
            let name = "model-\(number(index + 1))-of-\(number(shards.count)).safetensors"
            try SafetensorsStream(tensors: shard).write(to: "\(directory)/\(name)")
            for tensor in shard { map[tensor.name] = .string(name) }
        }
        let total = tensors.reduce(0) { $0 + $1.byteCount }
        let index = JSONValue.object([
            "metadata": .object(["total_size": .integer(Int64(total))]), "weight_map": .object(map),
        ])
        try AtomicFile.write(
            index.serialized(pretty: true) + "\n", to: directory + "/model.safetensors.index.json")
    }
}
