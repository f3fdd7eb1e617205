public import LoRAFormats

/// The frozen base: its configuration and its weights in the map.
public final class BaseModel: Sendable {
    public let file: GGUFFile
    public let configuration: ModelConfiguration
    /// (V, C): one row per token.
    let embedding: FrozenMatrix
    /// (V, C): the same matrix where the base ties them.
    let output: StackedMatrix
    let outputNorm: [Float]  // (C)
    let blocks: [Block]
    /// Divisors of the rotary frequencies (D/2), as Llama 3 scales them; empty for none.
    let ropeFactors: [Float]

    /// The weights of one transformer block.
    struct Block: Sendable {
        let attentionNorm: [Float]  // (C)
        let queryKeyValue: StackedMatrix  // ((H+2K)·D, C)
        let attentionOutput: StackedMatrix  // (C, H·D)
        let feedForwardNorm: [Float]  // (C)
        let gateUp: StackedMatrix  // (2F, C)
        let down: StackedMatrix  // (C, F)
    }

    /// Maps `path` and checks every tensor that the architecture needs.
    /// - Throws: `FormatError` that lists all tensors missing or misshapen.
    public convenience init(path: String) throws {
        try self.init(file: GGUFFile(path: path))
    }

    /// - Throws: `FormatError` that lists all tensors missing or misshapen.
    public init(file: GGUFFile) throws {
        let configuration = try ModelConfiguration(gguf: file)
        var tensors = TensorReader(file: file)
        let (C, F) = (configuration.hiddenSize, configuration.feedForwardSize)
        let (Q, KV, V) = (configuration.querySize, configuration.keyValueSize, configuration.vocabularySize)
        embedding = tensors.matrix("token_embd.weight", V, C)
        output = StackedMatrix([
            file.tensor(named: "output.weight") == nil ? embedding : tensors.matrix("output.weight", V, C)
        ])
        outputNorm = tensors.vector("output_norm.weight", C)
        ropeFactors = tensors.optionalVector("rope_freqs.weight", configuration.headSize / 2)
        if !ropeFactors.allSatisfy({ $0.isFinite && $0 > 0 }) {
            tensors.problems.append("tensor rope_freqs.weight must hold positive numbers")
        }
        blocks = (0..<configuration.blockCount).map { index in
            let name = { (part: String) in "blk.\(index).\(part).weight" }
            return Block(
                attentionNorm: tensors.vector(name("attn_norm"), C),
                queryKeyValue: StackedMatrix([
                    tensors.matrix(name("attn_q"), Q, C), tensors.matrix(name("attn_k"), KV, C),
                    tensors.matrix(name("attn_v"), KV, C),
                ]),
                attentionOutput: StackedMatrix([tensors.matrix(name("attn_output"), C, Q)]),
                feedForwardNorm: tensors.vector(name("ffn_norm"), C),
                gateUp: StackedMatrix([
                    tensors.matrix(name("ffn_gate"), F, C), tensors.matrix(name("ffn_up"), F, C),
                ]),
                down: StackedMatrix([tensors.matrix(name("ffn_down"), C, F)])
            )
        }
        tensors.refuseUnknown()
        guard tensors.problems.isEmpty else { throw FormatError(tensors.summary, file: file.path) }
        self.file = file
        self.configuration = configuration
    }
}

/// Finds tensors by name and shape and collects what is wrong.
private struct TensorReader {
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
