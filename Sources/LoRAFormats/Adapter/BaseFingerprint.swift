import Crypto
import OrderedCollections

/// What tells one base model from another: SHA-256 over its architecture, hyperparameters and tensors.
///
/// Tokenizer, chat template and names do not count, nor does the order of keys and tensors in the file.
public enum BaseFingerprint {
    /// The fingerprint of `file`, 64 hexadecimal digits.
    ///
    /// Reading every byte takes a while, so the result is kept in `<base>.fingerprint`, and used as long as size, time of
    /// change and inode of the base stay the same. Where that file cannot be written, nothing is kept.
    public static func fingerprint(of file: GGUFFile) -> String {
        let cachePath = file.path + ".fingerprint"
        if let cached = read(cachePath, for: file.map.identity) { return cached }
        let fingerprint = compute(file)
        write(fingerprint, to: cachePath, for: file.map.identity)
        return fingerprint
    }

    // MARK: Cache

    private static func read(_ path: String, for identity: MappedFile.Identity) -> String? {
        guard let map = try? MappedFile(path: path, limit: 4096),
            let json = try? withExtendedLifetime(map, { try JSONValue(parsing: map.bytes) }),
            json["size"]?.intValue == identity.size, json["modified_ns"]?.intValue == identity.modified,
            json["inode"]?.stringValue == String(identity.inode), let fingerprint = json["fingerprint"]?.stringValue,
            Digest.isHexadecimal(fingerprint)
        else { return nil }
        return fingerprint
    }

    private static func write(_ fingerprint: String, to path: String, for identity: MappedFile.Identity) {
        let json = JSONValue.object([
            "fingerprint": .string(fingerprint), "size": .integer(Int64(identity.size)),
            "modified_ns": .integer(Int64(identity.modified)), "inode": .string(String(identity.inode)),
        ])
        // A directory that cannot be written only means computing again next time.
        try? AtomicFile.write(json.serialized(pretty: true) + "\n", to: path)
    }

    // MARK: Computation

    /// The fingerprint, read from every byte of the file.
    static func compute(_ file: GGUFFile) -> String {
        var hash = SHA256()
        update(&hash, "lora base fingerprint 1")
        let architectureKey = "general.architecture"
        let prefix = (file.metadata[architectureKey]?.stringValue ?? "") + "."
        let keys = file.keys.filter { $0 == architectureKey || $0.hasPrefix(prefix) }
            .sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        update(&hash, keys.count)
        for key in keys {
            update(&hash, key)
            file.metadata[key].map { update(&hash, $0) }
        }
        let tensors = file.tensors.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
        update(&hash, tensors.count)
        for tensor in tensors {
            update(&hash, tensor.name)
            update(&hash, tensor.type.rawValue)
            update(&hash, tensor.shape.count)
            for size in tensor.shape { update(&hash, size) }
            hash.update(bufferPointer: file.bytes(of: tensor))
            file.map.releasePages(tensor.offset..<tensor.offset + tensor.byteCount)
        }
        return Digest.hexadecimal(hash.finalize())
    }

    private static func update<Value: FixedWidthInteger>(_ hash: inout SHA256, _ value: Value) {
        withUnsafeBytes(of: value.littleEndian) { hash.update(bufferPointer: $0) }
    }

    /// The length goes first, so that no two sequences of texts have the same bytes.
    private static func update(_ hash: inout SHA256, _ text: String) {
        var text = text
        text.withUTF8 {
            update(&hash, $0.count)
            hash.update(bufferPointer: UnsafeRawBufferPointer($0))
        }
    }

    /// The value as a GGUF file has it.
    private static func update(_ hash: inout SHA256, _ value: GGUFValue) {
        var bytes: [UInt8] = []
        value.append(to: &bytes)
        update(&hash, value.type.rawValue)
        bytes.withUnsafeBytes { hash.update(bufferPointer: $0) }
    }
}
