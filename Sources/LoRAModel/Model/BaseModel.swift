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
    let rowSquares = RowSquares()

    /// The weights of one transformer block.
    struct Block: Sendable {
        let attentionNorm: [Float]  // (C)
        let queryKeyValue: StackedMatrix  // ((H+2K)·D, C)
        let queryKeyValueBias: [Float]  // ((H+2K)·D); empty for none
        let headNorms: HeadNormWeights?
        let attentionOutput: StackedMatrix  // (C, H·D)
        let attentionOutputBias: [Float]  // (C); empty for none
        let feedForwardNorm: [Float]  // (C)
        let gateUp: StackedMatrix  // (2F, C)
        let down: StackedMatrix  // (C, F)
    }

    /// Weights of the norms before the rotation, the same for every head.
    struct HeadNormWeights: Sendable {
        let query: [Float]  // (D)
        let key: [Float]  // (D)
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
        let (C, V) = (configuration.hiddenSize, configuration.vocabularySize)
        embedding = tensors.matrix("token_embd.weight", V, C)
        output = StackedMatrix([
            file.tensor(named: "output.weight") == nil ? embedding : tensors.matrix("output.weight", V, C)
        ])
        outputNorm = tensors.vector("output_norm.weight", C)
        ropeFactors = tensors.optionalVector("rope_freqs.weight", configuration.headSize / 2)
        if !ropeFactors.allSatisfy({ $0.isFinite && $0 > 0 }) {
            tensors.problems.append("tensor rope_freqs.weight must hold positive numbers")
        }
        blocks = (0..<configuration.blockCount).map { tensors.block($0, configuration) }
        tensors.refuseUnknown()
        guard tensors.problems.isEmpty else { throw FormatError(tensors.summary, file: file.path) }
        self.file = file
        self.configuration = configuration
    }
}

extension BaseModel {
    /// The matrix (out, in) of a projection.
    func matrix(_ target: TargetModule, block index: Int) -> FrozenMatrix {
        let block = blocks[index]
        return switch target {
        case .queryProjection: block.queryKeyValue.parts[0]
        case .keyProjection: block.queryKeyValue.parts[1]
        case .valueProjection: block.queryKeyValue.parts[2]
        case .outputProjection: block.attentionOutput.parts[0]
        case .gateProjection: block.gateUp.parts[0]
        case .upProjection: block.gateUp.parts[1]
        case .downProjection: block.down.parts[0]
        }
    }
}
