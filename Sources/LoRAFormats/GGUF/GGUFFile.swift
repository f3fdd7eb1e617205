/// A memory-mapped GGUF v3 file (`MAP_SHARED | PROT_READ`), validated when it is opened.
///
/// Version 2 has the same layout and is read too.
public final class GGUFFile: Sendable {
    public let path: String
    /// Keys in the order of the file.
    public let keys: [String]
    public let metadata: [String: GGUFValue]
    public let tensors: [GGUFTensor]
    /// Bytes to which tensor data is aligned (`general.alignment`, 32 when absent).
    public let alignment: Int
    /// Of the tensor data, from the beginning of the file.
    public let dataOffset: Int
    /// The file itself.
    public let map: MappedFile

    private let indices: [String: Int]

    /// Opens the file and checks all of its header: after this, every tensor lies whole inside the file.
    /// - Throws: `FormatError` with the byte offset.
    public init(path: String) throws {
        self.path = path
        let map = try MappedFile(path: path)
        let header = try FormatError.locating(in: path) { () throws(FormatError) in try GGUFHeader(reading: map.bytes) }
        self.map = map
        keys = header.keys
        metadata = header.metadata
        tensors = header.tensors
        alignment = header.alignment
        dataOffset = header.dataOffset
        indices = header.indices
    }

    /// The tensor of that name, if there is one.
    public func tensor(named name: String) -> GGUFTensor? { indices[name].map { tensors[$0] } }

    /// The tensor's bytes in the map; valid as long as this object lives. Mind that Swift may end its life right after
    /// its last use: keep it in a property, or use `withExtendedLifetime`.
    public func bytes(of tensor: GGUFTensor) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: map.bytes[tensor.offset..<tensor.offset + tensor.byteCount])
    }
}
