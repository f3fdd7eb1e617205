import Glibc
public import LoRAFormats
public import LoRAModel
import OrderedCollections

/// The programs whose adapters can be read and written.
public enum AdapterFormat: String, Sendable, CaseIterable {
    /// A directory as PEFT saves it (https://huggingface.co/docs/peft/developer_guides/checkpoint).
    case peft
    /// A GGUF file as llama.cpp's `--lora` takes it.
    case gguf
    /// A directory as mlx-lm saves it.
    case mlx
}

/// Between the adapter formats of PEFT, MLX and llama.cpp and `.lora` files.
public enum AdapterConversion {
    /// Writes the adapter at `source` (PEFT directory, MLX directory, GGUF adapter) as a `.lora` file for `base`.
    /// - Parameters:
    ///   - precision: type of A and B in the file; nil keeps every value and its type.
    ///   - allowsOtherBase: take an adapter whose record names another base, when its shapes fit.
    /// - Returns: what was written.
    /// - Throws: `FormatError` that names every tensor and key that does not fit.
    @discardableResult
    public static func importAdapter(
        from source: String, base: BaseModel, to output: String, precision: SafetensorsType? = nil,
        allowsOtherBase: Bool = false
    ) throws -> AdapterFile {
        try refuse(output, replacing: [("adapter to import", source), ("base", base.file.path)])
        let found = try FormatError.relocating(in: source) { try read(source, configuration: base.configuration) }
        let tensors = try FormatError.relocating(in: source) {
            try found.tensors.map { try $0.isLowRankMatrix ? $0.converted(to: precision) : $0 }
        }
        let file = try AdapterFile(
            configuration: found.configuration, record: found.record(for: base, source: source, output: output),
            tensors: tensors)
        _ = try file.parameters(for: base, path: source, allowsOtherBase: allowsOtherBase)
        try file.write(path: output)
        return file
    }

    /// Writes the `.lora` file at `path`, an adapter of `base`, for another program.
    /// - Parameters:
    ///   - baseName: what the other program shall call the base; nil keeps the recorded name.
    ///   - precision: type of A and B; nil keeps every value and its type.
    ///   - allowsOtherBase: go ahead when it was trained on another base and its shapes fit.
    /// - Returns: what was exported.
    /// - Throws: `FormatError` when the adapter does not fit the base, the format cannot express it, or it cannot be
    ///   written.
    @discardableResult
    public static func exportAdapter(
        _ path: String, base: BaseModel, format: AdapterFormat, to output: String, baseName: String? = nil,
        precision: SafetensorsType? = nil, allowsOtherBase: Bool = false
    ) throws -> AdapterFile {
        try refuse(output, replacing: [("adapter to export", path), ("base", base.file.path)])
        var file = try AdapterFile.read(path: path)
        _ = try file.parameters(for: base, path: path, allowsOtherBase: allowsOtherBase)
        file = try FormatError.relocating(in: path) { try file.renamed(baseName: baseName, precision: precision) }
        switch format {
        case .peft: try PEFTDirectory.write(file, to: output)
        case .gguf:
            let writer = try FormatError.relocating(in: path) { try GGUFAdapter.writer(file, base: base) }
            try writer.write(to: output)
        case .mlx:
            let files = try FormatError.relocating(in: path) {
                try MLXDirectory.files(file, configuration: base.configuration)
            }
            try AtomicDirectory.write(files, to: output)
        }
        return file
    }

    private static func read(_ source: String, configuration: ModelConfiguration) throws -> ForeignAdapter {
        var status = stat()
        guard stat(source, &status) == 0 else { throw FormatError("there is no such file or directory") }
        guard status.st_mode & S_IFMT == S_IFDIR else { return try readFile(source, configuration: configuration) }
        func has(_ name: String) -> Bool { access("\(source)/\(name)", F_OK) == 0 }
        if has(MLXDirectory.tensorsName) { return try MLXDirectory.read(source, configuration: configuration) }
        guard has(PEFTDirectory.configurationName) else {
            throw FormatError(
                "holds no adapter: there is no \(PEFTDirectory.configurationName); expected a directory of PEFT or "
                    + "mlx-lm, or a GGUF adapter")
        }
        return try PEFTDirectory.read(source)
    }

    private static func readFile(_ source: String, configuration: ModelConfiguration) throws -> ForeignAdapter {
        let map = try MappedFile(path: source)
        let magic = withExtendedLifetime(map) { Array(map.bytes.prefix(4)) }
        if magic.elementsEqual("GGUF".utf8) { return try GGUFAdapter.read(source, configuration: configuration) }
        if magic.starts(with: "PK".utf8) {
            throw FormatError("is a ZIP archive; a .lora file needs no import, of another archive unpack the directory")
        }
        throw FormatError("is no adapter: expected a directory of PEFT or mlx-lm, or a GGUF adapter")
    }

    /// - Throws: `FormatError` when `output` is one of the files that are read.
    private static func refuse(_ output: String, replacing sources: [(role: String, path: String)]) throws {
        var (target, source) = (stat(), stat())
        guard stat(output, &target) == 0 else { return }
        for (role, path) in sources where stat(path, &source) == 0 {
            guard (target.st_dev, target.st_ino) != (source.st_dev, source.st_ino) else {
                throw FormatError("is the \(role) itself; give another --output", file: output)
            }
        }
    }
}

extension AdapterFile {
    fileprivate func renamed(baseName: String?, precision: SafetensorsType?) throws -> AdapterFile {
        if baseName == nil, precision == nil { return self }
        var configuration = configuration
        configuration.baseModel = baseName ?? configuration.baseModel
        return try AdapterFile(
            configuration: configuration, record: record,
            tensors: tensors.tensors.map {
                let tensor = try tensors.named($0)
                return try tensor.isLowRankMatrix ? tensor.converted(to: precision) : tensor
            })
    }
}
