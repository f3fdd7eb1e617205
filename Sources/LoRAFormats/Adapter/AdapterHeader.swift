/// What an adapter's file says about itself: all of it but the tensors, which nobody has looked at yet.
public struct AdapterHeader: Sendable {
    public let configuration: AdapterConfiguration
    public let record: AdapterRecord
    /// SHA-256 that the record states for the tensor entry.
    public let tensorDigest: String
    /// Bytes that the archive states for the tensor entry.
    public let tensorBytes: Int

    /// Reads the small entries of a `.lora` file.
    /// - Throws: `FormatError` with what is missing or wrong.
    public init(_ archive: ZipArchive) throws {
        tensorBytes = try archive.adapterEntry(AdapterFile.tensorsName).size
        let configuration = try archive.readAdapterEntry(
            AdapterFile.configurationName, limit: AdapterFile.maximumConfiguration)
        self.configuration = try FormatError.relocating(in: AdapterFile.configurationName) {
            try configuration.withBytes { try AdapterConfiguration(json: try JSONValue(parsing: $0)) }
        }
        let record = try archive.readAdapterEntry(AdapterFile.recordName, limit: AdapterFile.maximumRecord)
        (self.record, tensorDigest) = try FormatError.relocating(in: AdapterFile.recordName) {
            try record.withBytes { try AdapterRecord.parse(try JSONValue(parsing: $0)) }
        }
    }

    /// `AdapterFile.contentDigest` of the file, when its tensors are the ones that the record states.
    public var contentDigest: String {
        AdapterFile.contentDigest(configuration: configuration, tensorDigest: tensorDigest)
    }
}

extension ZipArchive {
    /// The entry of that name, which every adapter has.
    func adapterEntry(_ name: String) throws(FormatError) -> ZipEntry {
        if let entry = entry(named: name) { return entry }
        let found = entries.prefix(5).map { FormatError.quoted($0.name) }.joined(separator: ", ")
        throw FormatError("no entry '\(name)' (found \(found)); this is no adapter")
    }

    /// The bytes of that entry.
    func readAdapterEntry(_ name: String, limit: Int) throws -> OwnedBytes {
        try read(try adapterEntry(name), limit: limit)
    }
}
