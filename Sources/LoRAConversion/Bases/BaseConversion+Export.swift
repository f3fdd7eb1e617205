import CKernels
import LoRAFormats
import LoRAModel
import OrderedCollections

extension BaseConversion {
    /// - Parameter shardBytes: more than that goes into several files.
    static func exportCheckpoint(
        _ base: BaseModel, to directory: String, type: SafetensorsType?, shardBytes: Int
    ) throws {
        let (file, configuration) = (base.file, base.configuration)
        // A checkpoint has all biases of its family or none.
        let hasBias = file.tensors.contains { $0.name.hasSuffix(".bias") }
        let places = TensorPlace.all(
            configuration, isTied: file.tensor(named: "output.weight") == nil, hasQueryKeyValueBias: hasBias,
            hasAttentionOutputBias: hasBias && configuration.architecture == "llama")
        let type = type ?? exactType(file)
        let config = try exportedConfiguration(base, places: places, type: type)
        let staged = try StagedDirectory(path: directory)
        let path = staged.temporaryPath
        try TokenizerConversion.export(file, to: path)
        try AtomicFile.write(config.serialized(pretty: true) + "\n", to: path + "/config.json")
        let tensors = places.map { place in
            SafetensorsStream.Tensor(name: place.checkpointName, type: type, shape: place.shape) { sink in
                try write(place, of: file, as: type, into: sink)
            }
        }
        try SafetensorsStream.write(tensors, into: path, shardBytes: shardBytes)
        try staged.commit()
    }

    private static func write(
        _ place: TensorPlace, of file: GGUFFile, as type: SafetensorsType, into sink: GGUFWriter.Sink
    ) throws {
        guard let target = type.tensorType else { throw FormatError("\(type.rawValue) is no type of weights") }
        guard let tensor = file.tensor(named: place.name) else {
            // A bias that the base does not have.
            let zeros = [UInt8](repeating: 0, count: place.count * type.elementBytes)
            return try zeros.withUnsafeBytes { try sink($0) }
        }
        let bytes = file.bytes(of: tensor)
        let rows = RowConversion(
            name: place.name, source: bytes, type: tensor.type, rows: place.rows, columns: place.columns)
        try rows.write(as: target, order: place.baseRow, into: sink)
        file.map.releasePages(tensor.offset..<tensor.offset + tensor.byteCount)
    }

    /// The smallest type that holds all values: BF16 or F16 when all matrices are of it and no vector loses anything,
    /// else F32.
    private static func exactType(_ file: GGUFFile) -> SafetensorsType {
        let matrixTypes = Set(file.tensors.filter { $0.shape.count > 1 }.map(\.type))
        guard let type = matrixTypes.first, matrixTypes.count == 1, type == .bf16 || type == .f16 else { return .f32 }
        let isExact = file.tensors.allSatisfy { tensor in
            if tensor.shape.count > 1 || tensor.name == "rope_freqs.weight" || tensor.type == type { return true }
            guard tensor.type == .f32 else { return false }
            return file.bytes(of: tensor).bindMemory(to: Float.self).allSatisfy { value in
                type == .f16 ? Float(Float16(value)) == value : value.bitPattern & 0xFFFF == 0
            }
        }
        guard isExact else { return .f32 }
        return type == .f16 ? .f16 : .bf16
    }

    /// config.json, in the keys of transformers 4, which later versions read too.
    private static func exportedConfiguration(
        _ base: BaseModel, places: [TensorPlace], type: SafetensorsType
    ) throws -> JSONValue {
        let (configuration, metadata) = (base.configuration, base.file.metadata)
        guard let family = ModelFamily(architecture: configuration.architecture) else {
            throw FormatError("no Hugging Face model is known for \(configuration.architecture)", file: base.file.path)
        }
        let integer = { (value: Int) in JSONValue.integer(Int64(value)) }
        var members: OrderedDictionary<String, JSONValue> = [
            "architectures": .array([.string(family.className)]),
            "model_type": .string(family.rawValue),
            "vocab_size": integer(configuration.vocabularySize),
            "hidden_size": integer(configuration.hiddenSize),
            "intermediate_size": integer(configuration.feedForwardSize),
            "num_hidden_layers": integer(configuration.blockCount),
            "num_attention_heads": integer(configuration.headCount),
            "num_key_value_heads": integer(configuration.keyValueHeadCount),
            "head_dim": integer(configuration.headSize),
            "max_position_embeddings": integer(configuration.contextLength),
            "rms_norm_eps": .number(shortest(configuration.normEpsilon)),
            "rope_theta": .number(shortest(Float(configuration.ropeBase))),
            "rope_scaling": try ropeScaling(base),
            "hidden_act": .string("silu"),
            "tie_word_embeddings": .bool(!places.contains { $0.name == "output.weight" }),
            "torch_dtype": .string(type == .f32 ? "float32" : type == .f16 ? "float16" : "bfloat16"),
        ]
        if family != .qwen2 {
            members["attention_bias"] = .bool(places.contains { $0.name == "blk.0.attn_q.bias" })
        }
        if family == .llama { members["mlp_bias"] = .bool(false) }
        for name in ["bos", "eos", "padding"] {
            guard let id = metadata["tokenizer.ggml.\(name)_token_id"]?.intValue else { continue }
            members["\(name == "padding" ? "pad" : name)_token_id"] = integer(id)
        }
        return .object(members)
    }

    private static func ropeScaling(_ base: BaseModel) throws -> JSONValue {
        let factor = base.configuration.ropeLinearFactor
        guard let tensor = base.file.tensor(named: "rope_freqs.weight") else {
            return factor == 1
                ? .null : .object(["rope_type": .string("linear"), "factor": .number(shortest(Float(factor)))])
        }
        let divisors = [Float](unsafeUninitializedCapacity: tensor.count) { buffer, count in
            guard let out = buffer.baseAddress, let from = base.file.bytes(of: tensor).baseAddress else { return }
            count =
                lora_dequantize(out, from, lora_type(rawValue: tensor.type.rawValue), tensor.count) == 0
                ? tensor.count : 0
        }
        if divisors.allSatisfy({ $0 == 1 }), factor == 1 { return .null }
        guard factor == 1, let scaling = Llama3Scaling(divisors: divisors, base: base.configuration.ropeBase) else {
            throw FormatError(
                "rope_freqs.weight is not Llama 3's scaling, which is all that config.json can say",
                file: base.file.path)
        }
        return .object([
            "rope_type": .string("llama3"), "factor": .number(shortest(Float(scaling.factor))),
            "low_freq_factor": .number(scaling.lowFrequencyFactor),
            "high_freq_factor": .number(scaling.highFrequencyFactor),
            "original_max_position_embeddings": .integer(Int64(scaling.originalContext)),
        ])
    }

    /// The decimal number that people wrote before it became a float.
    private static func shortest(_ value: Float) -> Double { Double(value.description) ?? Double(value) }
}
