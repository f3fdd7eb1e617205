public import LoRAModel

/// One version of one adapter, immutable. A request holds the snapshot that it was admitted with until it ends; memory is
/// freed with the last holder.
public final class AdapterSnapshot: Sendable {
    /// The name that requests call it by.
    public let name: String
    /// SHA-256 of all that decides what it computes (`AdapterFile.contentDigest`), 64 hexadecimal digits.
    public let digest: String
    /// Resolved for the base (`AdapterParameters.resolved(for:pool:)`).
    public let parameters: PackedAdapter
    private let residency: AdapterResidency?

    public convenience init(name: String, digest: String, parameters: AdapterParameters) {
        self.init(name: name, digest: digest, parameters: parameters, residency: nil)
    }

    /// - Parameter residency: counts the snapshot as long as it lives.
    init(name: String, digest: String, parameters: AdapterParameters, residency: AdapterResidency?) {
        self.name = name
        self.digest = digest
        self.parameters = PackedAdapter(parameters)
        self.residency = residency
        residency?.enter(bytes: residentBytes)
    }

    deinit { residency?.leave(bytes: residentBytes) }

    /// Bytes of its matrices.
    public var residentBytes: Int { parameters.byteCount }
}
