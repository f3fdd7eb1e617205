import Crypto

extension GGUFFile {
    /// SHA-256 over the keys that begin with `prefix`, with their types and values; their order in the file does not
    /// count.
    public func digest(ofKeysFrom prefix: String) -> String {
        var hash = SHA256()
        for key in keys.filter({ $0.hasPrefix(prefix) }).sorted(by: { $0.utf8.lexicographicallyPrecedes($1.utf8) }) {
            // NUL ends the key; a value tells its own length.
            var bytes = Array(key.utf8) + [0, UInt8(metadata[key]?.type.rawValue ?? 0)]
            metadata[key]?.append(to: &bytes)
            hash.update(data: bytes)
        }
        return Digest.hexadecimal(hash.finalize())
    }
}
