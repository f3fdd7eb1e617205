import LoRAFormats

/// Finds tensors by name and shape and collects what is wrong.
struct TensorReader {
    let file: GGUFFile
    var problems: [String] = []
    var used: Set<String> = []

    /// All problems; beyond the first dozen only their number.
    var summary: String {
        let shown = problems.prefix(12).joined(separator: "; ")
        return problems.count > 12 ? "\(shown); and \(problems.count - 12) more" : shown
    }

    mutating func matrix(_ name: String, _ rows: Int, _ columns: Int) -> FrozenMatrix {
        guard let tensor = find(name, [rows, columns]) else {
            // Never multiplied: the problems are thrown before anyone sees it. It can be stacked like the real one.
            return FrozenMatrix(
                bytes: UnsafeRawPointer(bitPattern: 64).unsafelyUnwrapped, type: .f32, rows: rows, columns: columns)
        }
        let bytes = file.bytes(of: tensor).baseAddress ?? UnsafeRawPointer(bitPattern: 64).unsafelyUnwrapped
        return FrozenMatrix(bytes: bytes, type: tensor.type, rows: rows, columns: columns)
    }

    mutating func vector(_ name: String, _ count: Int) -> [Float] {
        guard let tensor = find(name, [count]), let bytes = file.bytes(of: tensor).baseAddress else { return [] }
        let row = FrozenMatrix(bytes: bytes, type: tensor.type, rows: 1, columns: count)
        return [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
            if let out = buffer.baseAddress { row.expand(out, row: 0) }
            initialized = count
        }
    }

    mutating func optionalVector(_ name: String, _ count: Int) -> [Float] {
        file.tensor(named: name) == nil ? [] : vector(name, count)
    }

    /// Block `index` with what its architecture adds to the common parts.
    mutating func block(_ index: Int, _ configuration: ModelConfiguration) -> BaseModel.Block {
        let (C, F) = (configuration.hiddenSize, configuration.feedForwardSize)
        let (Q, KV, D) = (configuration.querySize, configuration.keyValueSize, configuration.headSize)
        let name = { (part: String) in "blk.\(index).\(part).weight" }
        let headNorms =
            configuration.normalizesHeads
            ? BaseModel.HeadNormWeights(query: vector(name("attn_q_norm"), D), key: vector(name("attn_k_norm"), D))
            : nil
        return BaseModel.Block(
            attentionNorm: vector(name("attn_norm"), C),
            queryKeyValue: StackedMatrix([
                matrix(name("attn_q"), Q, C), matrix(name("attn_k"), KV, C), matrix(name("attn_v"), KV, C),
            ]),
            queryKeyValueBias: queryKeyValueBias(index, configuration),
            headNorms: headNorms,
            attentionOutput: StackedMatrix([matrix(name("attn_output"), C, Q)]),
            attentionOutputBias: configuration.architecture == "llama"
                ? optionalVector("blk.\(index).attn_output.bias", C) : [],
            feedForwardNorm: vector(name("ffn_norm"), C),
            gateUp: StackedMatrix([matrix(name("ffn_gate"), F, C), matrix(name("ffn_up"), F, C)]),
            down: StackedMatrix([matrix(name("ffn_down"), C, F)])
        )
    }

    /// qwen2 always has these biases, qwen3 never; of `llama` some models have some.
    private mutating func queryKeyValueBias(_ index: Int, _ configuration: ModelConfiguration) -> [Float] {
        guard configuration.architecture != "qwen3" else { return [] }
        let parts = [
            ("attn_q", configuration.querySize), ("attn_k", configuration.keyValueSize),
            ("attn_v", configuration.keyValueSize),
        ]
        let biases = parts.map { part, count in
            let name = "blk.\(index).\(part).bias"
            return configuration.architecture == "qwen2" ? vector(name, count) : optionalVector(name, count)
        }
        if biases.allSatisfy(\.isEmpty) { return [] }
        return zip(biases, parts).flatMap { bias, part in
            bias.isEmpty ? [Float](repeating: 0, count: part.1) : bias
        }
    }

    /// A tensor that the architecture does not use, such as a bias, would change the arithmetic.
    mutating func refuseUnknown() {
        for tensor in file.tensors where !used.contains(tensor.name) && !tensor.name.hasSuffix(".rotary_emb.inv_freq") {
            problems.append("tensor \(tensor.name) is not part of the supported architecture")
        }
    }

    private mutating func find(_ name: String, _ shape: [Int]) -> GGUFTensor? {
        used.insert(name)
        guard let tensor = file.tensor(named: name) else {
            problems.append("tensor \(name) is missing")
            return nil
        }
        guard tensor.shape == shape else {
            problems.append("tensor \(name) has shape \(tensor.shape), expected \(shape)")
            return nil
        }
        return tensor
    }
}
