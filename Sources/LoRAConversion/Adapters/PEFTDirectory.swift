import LoRAFormats
import LoRAModel

/// PEFT's adapter directories, which are unzipped `.lora` files but for the record.
enum PEFTDirectory {
    static let configurationName = "adapter_config.json"

    /// The adapter in the directory at `path`, names without the name that PEFT gives the adapter in memory.
    /// - Throws: `FormatError` for a configuration or names that are not supported.
    static func read(_ path: String) throws -> ForeignAdapter {
        let file: AdapterFile
        // The caller names the directory.
        do { file = try AdapterFile.read(path: path) } catch let error as FormatError { throw error.within(path) }
        var (adapters, foreign): (Set<String>, [String]) = ([], [])
        let tensors = try file.tensors.tensors.map { tensor in
            let (name, adapter) = plain(tensor.name)
            if let adapter { adapters.insert(adapter) }
            if name.contains("lora_embedding_") || name.contains(".lm_head.") { foreign.append(tensor.name) }
            return try file.tensors.named(tensor, as: name)
        }
        guard adapters.count < 2 else {
            let names = adapters.sorted().map { FormatError.quoted($0) }.joined(separator: ", ")
            throw FormatError("holds several adapters (\(names)); save each in a directory of its own")
        }
        guard foreign.isEmpty else {
            throw FormatError(
                "adapters of the embedding and of the output head are not supported; train without them: "
                    + foreign.map { FormatError.quoted($0) }.joined(separator: ", "))
        }
        return ForeignAdapter(
            format: .peft, configuration: file.configuration, tensors: tensors, digest: file.tensorDigest,
            ownRecord: file.record.baseFingerprint == nil ? nil : file.record)
    }

    /// `….lora_A.NAME.weight`, as a model's own state dictionary has it, without the adapter's name.
    private static func plain(_ name: String) -> (name: String, adapter: String?) {
        var parts = name.split(separator: ".", omittingEmptySubsequences: false)
        if parts.last == "weight", let index = parts.lastIndex(of: "lora_magnitude_vector") {
            // Only magnitudes have no ".weight" in PEFT's files.
            let adapter = index + 2 < parts.count ? String(parts[index + 1]) : nil
            return (parts[...index].joined(separator: "."), adapter)
        }
        guard parts.count > 3, parts.last == "weight", ["lora_A", "lora_B"].contains(parts[parts.count - 3]) else {
            return (name, nil)
        }
        let adapter = String(parts.remove(at: parts.count - 2))
        return (parts.joined(separator: "."), adapter)
    }

    /// Writes the parts of `file` as a directory.
    /// - Throws: `FormatError` when it cannot be written.
    static func write(_ file: AdapterFile, to directory: String) throws {
        let archive = try ZipArchive(file.serialized())
        try AtomicDirectory.write(
            archive.entries.map { ($0.name, try archive.read($0, limit: .max).array) }, to: directory)
    }
}

extension FormatError {
    /// The same error for a caller that places it in `path` itself.
    func within(_ path: String) -> FormatError {
        guard let file else { return self }
        let folder = path.hasSuffix("/") ? path : path + "/"
        if file == path || file + "/" == path { return FormatError(message) }
        guard file.hasPrefix(folder) else { return self }
        return FormatError(message, file: String(file.dropFirst(folder.count)))
    }
}
