import Foundation
import LoRAFormats
import LoRAModel

extension BaseConversion {
    static func isDirectory(_ path: String) -> Bool {
        var isDirectory: ObjCBool = false
        return FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) && isDirectory.boolValue
    }

    // MARK: From a Hugging Face directory

    static func importCheckpoint(
        _ directory: String, to output: String, type: GGUFTensorType?
    ) throws -> Report {
        let source = try CheckpointConfiguration(directory: directory)
        let checkpoint = try Checkpoint(directory: directory)
        let tokenizer = try TokenizerConversion.keys(
            directory: directory, vocabularySize: source.vocabularySize)
        let configuration = try source.modelConfiguration(tokenizer: tokenizer, file: directory + "/config.json")
        let places = try self.places(of: checkpoint, source, configuration, directory: directory)
        let types = places.map { targetType($0, in: checkpoint, type) }
        let divisors = source.ropeDivisors(headSize: configuration.headSize)

        var writer = GGUFWriter()
        let parameterCount = places.reduce(0) { $0 + $1.count }
        let keys = source.keys(
            name: URL(filePath: directory).standardizedFileURL.lastPathComponent, parameterCount: parameterCount,
            matrixType: zip(places, types).first { !$0.0.isVector }?.1 ?? .f32)
        for (key, value) in keys + tokenizer { try writer.add(key, value) }
        try writer.add("general.quantization_version", .uint32(2))
        if !divisors.isEmpty {
            try writer.addTensor(
                "rope_freqs.weight", type: .f32, shape: [divisors.count], bytes: divisors.withUnsafeBytes { Array($0) })
        }
        for (place, target) in zip(places, types) {
            try writer.addTensor(place.name, type: target, shape: place.shape) { sink in
                try write(place, of: checkpoint, as: target, into: sink)
            }
        }
        try writer.write(to: output)
        return Report(
            architecture: configuration.architecture, parameterCount: parameterCount, notes: source.notes)
    }

    /// The tensors to write.
    /// - Throws: `FormatError` that lists every tensor that is missing, surplus, misshapen or of an unsupported type.
    private static func places(
        of checkpoint: Checkpoint, _ source: CheckpointConfiguration, _ configuration: ModelConfiguration,
        directory: String
    ) throws -> [TensorPlace] {
        let (embedding, head) = ("model.embed_tokens.weight", "lm_head.weight")
        // As in transformers, which ties only what does not differ.
        let isTied =
            source.isTied && (checkpoint.tensor(named: head) == nil || checkpoint.areEqual(embedding, head))
        let places = TensorPlace.all(
            configuration, isTied: isTied, hasQueryKeyValueBias: source.hasQueryKeyValueBias,
            hasAttentionOutputBias: source.hasAttentionOutputBias)
        var problems: [String] = []
        for place in places {
            guard let tensor = checkpoint.tensor(named: place.checkpointName) else {
                problems.append("tensor \(place.checkpointName) is missing")
                continue
            }
            if tensor.shape != place.shape {
                problems.append("tensor \(place.checkpointName) has shape \(tensor.shape), expected \(place.shape)")
            }
            if tensor.type.tensorType == nil {
                problems.append(
                    "tensor \(place.checkpointName) has type \(tensor.type.rawValue), expected F32, F16 or BF16")
            }
        }
        var known = Set(places.map(\.checkpointName))
        if isTied { known.insert(head) }
        for name in checkpoint.names where !known.contains(name) && !name.hasSuffix(".rotary_emb.inv_freq") {
            problems.append(
                "tensor \(FormatError.quoted(name)) is not part of a \(source.family.rawValue) model of this config.json"
            )
        }
        guard problems.isEmpty else { throw FormatError(Checkpoint.summary(problems), file: directory) }
        return places
    }

    private static func targetType(
        _ place: TensorPlace, in checkpoint: Checkpoint, _ type: GGUFTensorType?
    ) -> GGUFTensorType {
        if place.isVector { return .f32 }
        let own = checkpoint.tensor(named: place.checkpointName)?.type.tensorType ?? .f32
        return matrixType(type ?? own, columns: place.columns)
    }

    private static func write(
        _ place: TensorPlace, of checkpoint: Checkpoint, as target: GGUFTensorType, into sink: GGUFWriter.Sink
    ) throws {
        let type = checkpoint.tensor(named: place.checkpointName)?.type.tensorType ?? .f32
        try checkpoint.withBytes(of: place.checkpointName) { bytes in
            let rows = RowConversion(
                name: place.checkpointName, source: bytes, type: type, rows: place.rows, columns: place.columns)
            try rows.write(as: target, order: place.checkpointRow, into: sink)
        }
        checkpoint.releasePages(of: place.checkpointName)
    }

    // MARK: From a GGUF file

    static func importFile(_ path: String, to output: String, type: GGUFTensorType?) throws -> Report {
        let base = try BaseModel(path: path)
        let file = base.file
        var writer = GGUFWriter(alignment: file.alignment)
        for key in file.keys {
            guard let value = file.metadata[key] else { continue }
            let isType = key == "general.file_type" && type != nil
            try writer.add(key, isType ? .uint32((type ?? .f32).fileType) : value)
        }
        for tensor in file.tensors {
            let target =
                tensor.shape.count < 2 ? tensor.type : matrixType(type ?? tensor.type, columns: tensor.shape[1])
            try writer.addTensor(tensor.name, type: target, shape: tensor.shape) { sink in
                let bytes = file.bytes(of: tensor)
                defer { file.map.releasePages(tensor.offset..<tensor.offset + tensor.byteCount) }
                if target == tensor.type { return try sink(bytes) }
                let rows = RowConversion(
                    name: tensor.name, source: bytes, type: tensor.type, rows: tensor.shape[0],
                    columns: tensor.shape[1])
                try rows.write(as: target, order: { $0 }, into: sink)
            }
        }
        try writer.write(to: output)
        return Report(
            architecture: base.configuration.architecture,
            parameterCount: file.tensors.reduce(0) { $0 + $1.count }, notes: [])
    }
}

extension GGUFTensorType {
    /// The value of `general.file_type` for a file whose matrices are mostly of this type.
    var fileType: UInt32 {
        switch self {
        case .f16: 1
        case .q8_0: 7
        case .bf16: 32
        default: 0
        }
    }
}
