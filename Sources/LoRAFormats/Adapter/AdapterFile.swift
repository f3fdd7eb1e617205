import Glibc

/// An adapter: a `.lora` file, which is a ZIP archive with a PEFT adapter and a record of where it comes from.
///
/// Unzipped it is a directory that PEFT loads. Equal content gives equal bytes.
public struct AdapterFile: Sendable {
    static let configurationName = "adapter_config.json"
    static let tensorsName = "adapter_model.safetensors"
    static let recordName = "lora.json"
    static let maximumConfiguration = 1 << 20
    static let maximumRecord = 64 << 20
    /// Bytes of the tensor entry that are read unless the caller says otherwise: 2 GiB.
    public static let maximumTensors = 2 << 30

    public let configuration: AdapterConfiguration
    public let record: AdapterRecord
    /// `base_model.model.model.layers.N.self_attn.q_proj.lora_A.weight` (r, in), `….lora_B.weight` (out, r), as in PEFT.
    public let tensors: SafetensorsFile
    /// SHA-256 of the tensor entry.
    public let tensorDigest: String

    /// An adapter of `tensors`, which have PEFT's names.
    /// - Throws: `FormatError` when two tensors have one name.
    public init(configuration: AdapterConfiguration, record: AdapterRecord, tensors: [NamedTensor]) throws {
        let bytes = OwnedBytes(try SafetensorsWriter.serialize(tensors))
        self.configuration = configuration
        self.record = record
        self.tensors = try SafetensorsFile(bytes, name: Self.tensorsName)
        tensorDigest = bytes.withBytes { Digest.hexadecimal(of: $0) }
    }

    /// SHA-256 of all that decides what the adapter computes: two files with this in common answer alike.
    public var contentDigest: String {
        Self.contentDigest(configuration: configuration, tensorDigest: tensorDigest)
    }

    static func contentDigest(configuration: AdapterConfiguration, tensorDigest: String) -> String {
        let text = configuration.json.serialized(sortedKeys: true) + tensorDigest
        return Array(text.utf8).withUnsafeBytes { Digest.hexadecimal(of: $0) }
    }

    // MARK: Writing

    /// The bytes of the `.lora` file.
    /// - Throws: `FormatError` when it would be too large for a ZIP archive.
    public func serialized() throws -> [UInt8] {
        func text(_ json: JSONValue) -> [UInt8] { Array((json.serialized(pretty: true) + "\n").utf8) }
        return try ZipWriter.serialize([
            (Self.configurationName, text(configuration.json)),
            (Self.tensorsName, tensors.withBytes { Array($0) }),
            (Self.recordName, text(record.json(tensorDigest: tensorDigest))),
        ])
    }

    /// Writes the `.lora` file, atomically.
    /// - Throws: `FormatError`; a file that was there is then still in place.
    public func write(path: String) throws {
        let bytes = try FormatError.relocating(in: path) { try serialized() }
        try AtomicFile.write(bytes, to: path)
    }

    // MARK: Reading

    /// Reads a `.lora` file, or a directory with `adapter_config.json` and `adapter_model.safetensors` as PEFT writes
    /// it (and `lora.json`, when it is an unzipped `.lora` file).
    /// - Parameter maximumTensors: The most bytes of tensors that are read.
    /// - Throws: `FormatError` with the file and what is wrong in it.
    public static func read(path: String, maximumTensors: Int = maximumTensors) throws -> AdapterFile {
        var status = stat()
        if stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR {
            return try readDirectory(path, maximumTensors: maximumTensors)
        }
        let archive = try ZipArchive(path: path)
        return try FormatError.relocating(in: path) { try read(archive, maximumTensors: maximumTensors) }
    }

    /// Reads a `.lora` file that is open already.
    /// - Parameter maximumTensors: The most bytes of tensors that are read.
    /// - Throws: `FormatError` with what is wrong in it.
    public static func read(_ archive: ZipArchive, maximumTensors: Int = maximumTensors) throws -> AdapterFile {
        let configuration = try archive.readAdapterEntry(configurationName, limit: maximumConfiguration)
        let record = try archive.readAdapterEntry(recordName, limit: maximumRecord)
        let tensors = try archive.readWithDigest(try archive.adapterEntry(tensorsName), limit: maximumTensors)
        return try withExtendedLifetime((configuration, record)) {
            try AdapterFile(
                configuration: configuration.bytes, record: record.bytes,
                tensors: try SafetensorsFile(tensors.bytes, name: tensorsName), tensorDigest: tensors.digest, domain: ""
            )
        }
    }

    private static func readDirectory(_ path: String, maximumTensors: Int) throws -> AdapterFile {
        let folder = path.hasSuffix("/") ? String(path.dropLast()) : path
        let configuration = try MappedFile(path: "\(folder)/\(configurationName)", limit: maximumConfiguration)
        if access("\(folder)/\(tensorsName)", F_OK) != 0, access("\(folder)/adapter_model.bin", F_OK) == 0 {
            throw FormatError(
                "adapter_model.bin is a pickle, which is not read; save the adapter again as \(tensorsName)",
                file: folder)
        }
        let tensors = try SafetensorsFile(path: "\(folder)/\(tensorsName)", limit: maximumTensors)
        let recordPath = "\(folder)/\(recordName)"
        let record = access(recordPath, F_OK) == 0 ? try MappedFile(path: recordPath, limit: maximumRecord) : nil
        let domain = folder.split(separator: "/").last.map(String.init) ?? "adapter"
        return try FormatError.relocating(in: folder) {
            try withExtendedLifetime((configuration, record)) {
                try AdapterFile(
                    configuration: configuration.bytes, record: record?.bytes, tensors: tensors,
                    tensorDigest: tensors.withBytes { Digest.hexadecimal(of: $0) }, domain: domain)
            }
        }
    }

    /// Puts the three parts together; without a record, as PEFT leaves it, one is made of the configuration.
    private init(
        configuration text: UnsafeRawBufferPointer, record recordText: UnsafeRawBufferPointer?,
        tensors: SafetensorsFile, tensorDigest: String, domain: String
    ) throws {
        configuration = try FormatError.relocating(in: Self.configurationName) {
            try AdapterConfiguration(json: try JSONValue(parsing: text))
        }
        self.tensors = tensors
        self.tensorDigest = tensorDigest
        guard let recordText else {
            var targets: [String] = []
            if case .names(let names) = configuration.targetModules { targets = names }
            record = AdapterRecord(
                domain: domain, baseFingerprint: nil, rank: configuration.rank, alpha: configuration.alpha,
                targets: targets)
            return
        }
        let (record, statedDigest) = try FormatError.relocating(in: Self.recordName) {
            try AdapterRecord.parse(try JSONValue(parsing: recordText))
        }
        self.record = record
        guard statedDigest == tensorDigest else {
            throw FormatError(
                "\(Self.tensorsName) is damaged or was replaced: its SHA-256 is \(tensorDigest), but "
                    + "\(Self.recordName) says \(statedDigest)"
            )
        }
        guard record.rank == configuration.rank, record.alpha == configuration.alpha else {
            throw FormatError(
                "\(Self.recordName) has rank \(record.rank) and alpha \(record.alpha), but "
                    + "\(Self.configurationName) \(configuration.rank) and \(configuration.alpha)"
            )
        }
    }
}
