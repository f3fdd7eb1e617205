public import LoRAFormats

/// Hyperparameters of a decoder-only transformer, from a GGUF file's metadata.
public struct ModelConfiguration: Sendable, Equatable {
    public let architecture: String
    /// L: transformer blocks.
    public let blockCount: Int
    /// C: width of the residual stream.
    public let hiddenSize: Int
    /// F: width of the feed-forward layer.
    public let feedForwardSize: Int
    /// H: query heads.
    public let headCount: Int
    /// K: key/value heads; a divisor of H.
    public let keyValueHeadCount: Int
    /// D: width of one head.
    public let headSize: Int
    /// V: tokens of the vocabulary.
    public let vocabularySize: Int
    /// Positions that the base was trained on, as far as every one of them sees all before it.
    public let contextLength: Int
    public let normEpsilon: Float
    public let ropeBase: Double
    /// Positions are divided by this (linear scaling); 1 for none.
    public let ropeLinearFactor: Double

    /// H·D: width of the queries.
    public var querySize: Int { headCount * headSize }
    /// K·D: width of the keys, and of the values.
    public var keyValueSize: Int { keyValueHeadCount * headSize }

    /// Shapes of a block's matrices (rows, columns) as they are multiplied: stacked where they share their input.
    var matrixShapes: MatrixShapes {
        MatrixShapes(
            queryKeyValue: (querySize + 2 * keyValueSize, hiddenSize), attentionOutput: (hiddenSize, querySize),
            gateUp: (2 * feedForwardSize, hiddenSize), down: (hiddenSize, feedForwardSize))
    }

    struct MatrixShapes {
        let queryKeyValue: (rows: Int, columns: Int)
        let attentionOutput: (rows: Int, columns: Int)
        let gateUp: (rows: Int, columns: Int)
        let down: (rows: Int, columns: Int)
        var all: [(rows: Int, columns: Int)] { [queryKeyValue, attentionOutput, gateUp, down] }
    }

    /// Whether rotary pairs are (i, i + D/2) instead of adjacent: GGUF permutes the `llama` architecture's q and k
    /// rows so that pairs are adjacent.
    public var ropeUsesHalves: Bool { architecture != "llama" }

    /// Whether every head of queries and keys has an RMSNorm before its rotation.
    public var normalizesHeads: Bool { architecture == "qwen3" }

    /// The architectures, by GGUF's names. Mistral's models are `llama`.
    public static let architectures = ["llama", "qwen2", "qwen3"]

    /// Limit that a hostile file must not pass, above any real model: what the products' scratch and kernels can take.
    fileprivate static let largestDimension = 1 << 16

    /// - Throws: `FormatError` that names every key that is missing, out of range or not supported.
    public init(gguf: GGUFFile) throws {
        let rows = gguf.tensor(named: "token_embd.weight")?.shape.first
        try self.init(metadata: gguf.metadata, vocabularySize: rows, file: gguf.path)
    }

    /// - Parameters:
    ///   - metadata: keys and values as in a GGUF file.
    ///   - vocabularySize: rows of the embedding; nil when there is none.
    ///   - file: what errors name.
    /// - Throws: `FormatError` that names every key that is missing, out of range or not supported.
    public init(metadata: [String: GGUFValue], vocabularySize: Int?, file: String) throws {
        guard let name = metadata["general.architecture"]?.stringValue else {
            throw FormatError("no general.architecture: not a model", file: file)
        }
        guard Self.architectures.contains(name) else {
            let supported = Self.architectures.joined(separator: ", ")
            throw FormatError(
                "architecture \(FormatError.quoted(name)) is not supported; supported: \(supported)", file: file)
        }
        var reader = KeyReader(metadata: metadata, architecture: name)
        architecture = name
        blockCount = reader.size("block_count", most: 4096)
        hiddenSize = reader.size("embedding_length", most: Self.largestDimension)
        feedForwardSize = reader.size("feed_forward_length", most: Self.largestDimension)
        headCount = reader.size("attention.head_count", most: 4096)
        keyValueHeadCount = reader.size("attention.head_count_kv", most: 4096, default: headCount)
        headSize = reader.size(
            "attention.key_length", most: 256, default: headCount > 0 ? hiddenSize / headCount : 0)
        // Up to the window's length a position sees what it would see without one.
        let context = reader.size("context_length", most: 1 << 28)
        contextLength = min(context, reader.size("attention.sliding_window", most: 1 << 28, default: context))
        normEpsilon = reader.float("attention.layer_norm_rms_epsilon", default: nil)
        ropeBase = Double(reader.float("rope.freq_base", default: 10_000))
        self.vocabularySize = vocabularySize ?? 0
        ropeLinearFactor = reader.linearRopeFactor()
        if vocabularySize == nil { reader.problems.append("no tensor token_embd.weight") }
        reader.check(headSize: headSize, heads: headCount, keyValueHeads: keyValueHeadCount)
        reader.checkTokens(vocabularySize: vocabularySize ?? 0)
        guard reader.problems.isEmpty else {
            throw FormatError(reader.problems.joined(separator: "; "), file: file)
        }
    }
}

/// Reads `<architecture>.*` keys and collects what is wrong, so that one error tells it all.
private struct KeyReader {
    let metadata: [String: GGUFValue]
    let architecture: String
    var problems: [String] = []

    mutating func size(_ key: String, most: Int, default fallback: Int? = nil) -> Int {
        let name = "\(architecture).\(key)"
        guard let value = metadata[name] else {
            if let fallback { return fallback }
            problems.append("key \(name) is missing")
            return 0
        }
        guard let number = value.intValue, (1...most).contains(number) else {
            problems.append("key \(name) must be a whole number from 1 to \(most)")
            return 0
        }
        return number
    }

    mutating func float(_ key: String, default fallback: Float?) -> Float {
        let name = "\(architecture).\(key)"
        guard let value = metadata[name] else {
            if let fallback { return fallback }
            problems.append("key \(name) is missing")
            return 1
        }
        guard let number = value.floatValue, number.isFinite, number > 0 else {
            problems.append("key \(name) must be a positive number")
            return 1
        }
        return number
    }

    mutating func linearRopeFactor() -> Double {
        switch metadata["\(architecture).rope.scaling.type"]?.stringValue ?? "none" {
        case "none": return 1
        case "linear": return Double(float("rope.scaling.factor", default: 1))
        case let other:
            problems.append("RoPE scaling \"\(other)\" is not supported; supported: none, linear, rope_freqs.weight")
            return 1
        }
    }

    mutating func check(headSize: Int, heads: Int, keyValueHeads: Int) {
        if headSize % 8 != 0 || headSize > 256 || headSize == 0 {
            problems.append("head size \(headSize) must be a multiple of 8 up to 256")
        }
        if heads * headSize > ModelConfiguration.largestDimension {
            problems.append("\(heads) heads of \(headSize) are wider than \(ModelConfiguration.largestDimension)")
        }
        if keyValueHeads > 0, heads % keyValueHeads != 0 {
            problems.append("\(heads) heads cannot share \(keyValueHeads) key/value heads")
        }
        let dimension = metadata["\(architecture).rope.dimension_count"]?.intValue ?? headSize
        if dimension != headSize {
            problems.append("RoPE over \(dimension) of \(headSize) dimensions is not supported")
        }
        let valueSize = metadata["\(architecture).attention.value_length"]?.intValue ?? headSize
        if valueSize != headSize { problems.append("value heads of \(valueSize) beside keys of \(headSize)") }
        if let experts = metadata["\(architecture).expert_count"]?.intValue, experts > 0 {
            problems.append("mixtures of experts are not supported")
        }
    }

    /// A token without a row in the embedding would be read from beyond its end.
    mutating func checkTokens(vocabularySize: Int) {
        guard vocabularySize > 0, case .strings(let tokens)? = metadata["tokenizer.ggml.tokens"] else { return }
        if tokens.count > vocabularySize {
            problems.append("\(tokens.count) tokens beside an embedding of \(vocabularySize) rows")
        }
    }
}
