public import LoRAModel

/// One version of one adapter, immutable. A request holds the snapshot that it was admitted with until it ends; memory is
/// freed with the last holder.
public final class AdapterSnapshot: Sendable {
    /// The name that requests call it by.
    public let name: String
    /// SHA-256 of all that decides what it computes (`AdapterFile.contentDigest`), 64 hexadecimal digits.
    public let digest: String
    /// Resolved for the base (`AdapterParameters.resolved(for:pool:)`).
    public let parameters: AdapterParameters

    public init(name: String, digest: String, parameters: AdapterParameters) {
        self.name = name
        self.digest = digest
        self.parameters = parameters
    }

    /// Bytes of its matrices.
    public var residentBytes: Int { parameters.layout.parameterCount * MemoryLayout<Float>.stride }
}
