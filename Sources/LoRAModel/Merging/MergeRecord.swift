public import LoRAFormats

/// What was merged into a base: the `lora.merge.*` keys of its file, arrays with an element for each adapter.
public struct MergeRecord: Sendable, Equatable {
    /// One adapter that was merged.
    public struct Entry: Sendable, Equatable {
        /// The file's name.
        public let name: String
        /// SHA-256 of the adapter's tensors.
        public let tensorDigest: String
        public let weight: Float
        public let method: String
        /// Fingerprint of the base that it was merged into.
        public let baseFingerprint: String
    }

    /// In the order of merging.
    public var entries: [Entry] = []

    private static let names = "lora.merge.names"
    private static let digests = "lora.merge.tensors_sha256"
    private static let weights = "lora.merge.weights"
    private static let methods = "lora.merge.methods"
    private static let bases = "lora.merge.base_fingerprints"
    static let keys = [names, digests, weights, methods, bases]

    init() {}

    /// Reads the keys; a base without them has merged nothing.
    /// - Throws: `FormatError` when they do not fit each other.
    public init(gguf: GGUFFile) throws {
        guard Self.keys.contains(where: { gguf.metadata[$0] != nil }) else { return }
        guard case .strings(let names)? = gguf.metadata[Self.names],
            case .strings(let digests)? = gguf.metadata[Self.digests],
            case .float32s(let weights)? = gguf.metadata[Self.weights],
            case .strings(let methods)? = gguf.metadata[Self.methods],
            case .strings(let bases)? = gguf.metadata[Self.bases],
            [digests.count, weights.count, methods.count, bases.count].allSatisfy({ $0 == names.count })
        else {
            throw FormatError(
                "keys \(Self.keys.joined(separator: ", ")) are not arrays of one length: what was merged into this base "
                    + "cannot be told", file: gguf.path)
        }
        entries = names.indices.map { index in
            Entry(
                name: names[index], tensorDigest: digests[index], weight: weights[index], method: methods[index],
                baseFingerprint: bases[index])
        }
    }

    /// Adds the keys to a file.
    func add(to writer: inout GGUFWriter) throws {
        try writer.add(Self.names, .strings(entries.map(\.name)))
        try writer.add(Self.digests, .strings(entries.map(\.tensorDigest)))
        try writer.add(Self.weights, .float32s(entries.map(\.weight)))
        try writer.add(Self.methods, .strings(entries.map(\.method)))
        try writer.add(Self.bases, .strings(entries.map(\.baseFingerprint)))
    }
}
