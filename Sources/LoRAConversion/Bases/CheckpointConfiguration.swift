import LoRAFormats

/// The hyperparameters in a Hugging Face directory's config.json, for the families that a base can be of. Keys that a
/// family's class in transformers does not read are ignored, as there.
struct CheckpointConfiguration {
    let family: ModelFamily
    let vocabularySize: Int
    let hiddenSize: Int
    let feedForwardSize: Int
    let blockCount: Int
    let headCount: Int
    let keyValueHeadCount: Int
    let headSize: Int
    let contextLength: Int
    let normEpsilon: Double
    let ropeBase: Double
    let ropeScaling: RopeScaling
    /// Whether the output matrix is the embedding.
    let isTied: Bool
    /// Whether q, k and v have biases.
    let hasQueryKeyValueBias: Bool
    /// Whether the output of attention has one too.
    let hasAttentionOutputBias: Bool
    /// What the user should know.
    let notes: [String]

    /// Reads `directory`/config.json.
    /// - Throws: `FormatError` that names every key that is missing, out of range or not supported.
    init(directory: String) throws {
        let path = directory + "/config.json"
        let bytes = try MappedFile.contents(path: path, limit: 64 << 20)
        self = try FormatError.relocating(in: path) {
            try CheckpointConfiguration(JSONValue(parsing: bytes))
        }
    }

    /// - Throws: `FormatError` that names every key that is missing, out of range or not supported.
    init(_ json: JSONValue) throws {
        guard json.objectValue != nil else { throw FormatError("is \(json.kind), expected an object") }
        guard let name = json["model_type"]?.stringValue, let family = ModelFamily(rawValue: name) else {
            let found = json["model_type"].map { FormatError.quoted($0.stringValue ?? $0.kind) } ?? "missing"
            let supported = ModelFamily.allCases.map(\.rawValue).joined(separator: ", ")
            throw FormatError("model_type is \(found); supported: \(supported)")
        }
        var reader = Reader(json: json)
        self.family = family
        vocabularySize = reader.size("vocab_size")
        hiddenSize = reader.size("hidden_size")
        feedForwardSize = reader.size("intermediate_size")
        blockCount = reader.size("num_hidden_layers")
        headCount = reader.size("num_attention_heads")
        keyValueHeadCount = reader.size(
            "num_key_value_heads", default: family == .llama || reader.isNull("num_key_value_heads") ? headCount : nil)
        let quotient = hiddenSize % max(headCount, 1) == 0 ? hiddenSize / max(headCount, 1) : nil
        headSize = reader.size("head_dim", default: family == .qwen3 ? nil : quotient)
        let context = reader.size("max_position_embeddings")
        normEpsilon = reader.positive("rms_norm_eps", default: 1e-6)
        (ropeBase, ropeScaling) = reader.rope(family)
        isTied = reader.flag("tie_word_embeddings")
        let attentionBias = (family == .llama || family == .qwen3) && reader.flag("attention_bias")
        if family == .qwen3, attentionBias { reader.problems.append("attention_bias of qwen3 is not supported") }
        hasQueryKeyValueBias = family == .qwen2 || attentionBias
        hasAttentionOutputBias = attentionBias
        reader.refuseUnsupported(family)
        var notes: [String] = []
        if let window = reader.window(family, blockCount: blockCount), window < context {
            contextLength = window
            notes.append(
                "attention reaches back \(window) positions only: the base's context ends there, not at \(context)")
        } else {
            contextLength = context
        }
        self.notes = notes
        guard reader.problems.isEmpty else { throw FormatError(reader.problems.joined(separator: "; ")) }
    }
}

/// Reads keys and collects what is wrong, so that one error tells it all.
private struct Reader {
    let json: JSONValue
    var problems: [String] = []

    /// A key's value; nil for none or null.
    private func value(_ key: String) -> JSONValue? { json[key].flatMap { $0.isNull ? nil : $0 } }

    func isNull(_ key: String) -> Bool { json[key]?.isNull ?? false }

    mutating func size(_ key: String, default fallback: Int? = nil) -> Int {
        guard let value = value(key) else {
            if let fallback { return fallback }
            problems.append("\(key) is missing")
            return 1
        }
        // What the hyperparameters may be in a base is checked with its keys.
        guard let number = value.intValue, (1...1 << 28).contains(number) else {
            problems.append("\(key) is \(Self.shown(value)), expected a whole number from 1 to \(1 << 28)")
            return 1
        }
        return number
    }

    mutating func positive(_ key: String, default fallback: Double?) -> Double {
        positive(value(key), key, default: fallback)
    }

    mutating func flag(_ key: String) -> Bool {
        guard let value = value(key) else { return false }
        guard let flag = value.boolValue else {
            problems.append("\(key) is \(Self.shown(value)), expected true or false")
            return false
        }
        return flag
    }

    private mutating func positive(_ value: JSONValue?, _ key: String, default fallback: Double?) -> Double {
        guard let value, !value.isNull else {
            if let fallback { return fallback }
            problems.append("\(key) is missing")
            return 1
        }
        guard let number = value.doubleValue, number > 0, Float(number).isFinite, Float(number) > 0 else {
            problems.append("\(key) is \(Self.shown(value)), expected a positive number")
            return 1
        }
        return number
    }

    private static func shown(_ value: JSONValue) -> String {
        switch value {
        case .array, .object: value.kind
        default: FormatError.quoted(value.stringValue ?? value.serialized())
        }
    }

    // MARK: RoPE

    /// `rope_parameters`, or `rope_theta` and `rope_scaling` in files of transformers 4.
    mutating func rope(_ family: ModelFamily) -> (base: Double, scaling: RopeScaling) {
        let name = value("rope_parameters") == nil ? "rope_scaling" : "rope_parameters"
        let parameters = value(name)
        if let parameters, parameters.objectValue == nil {
            problems.append("\(name) is \(Self.shown(parameters)), expected an object")
        }
        let theta = positive("rope_theta", default: 10_000)
        let base = positive(parameters?["rope_theta"], "\(name).rope_theta", default: theta)
        if let share = parameters?["partial_rotary_factor"], !share.isNull, share.doubleValue != 1 {
            problems.append("\(name).partial_rotary_factor \(Self.shown(share)) is not supported")
        }
        let type = parameters?["rope_type"] ?? parameters?["type"] ?? .string("default")
        switch type.stringValue {
        case "default": return (base, .none)
        case "linear":
            return (base, .linear(factor: positive(parameters?["factor"], "\(name).factor", default: nil)))
        case "llama3" where family.architecture == "llama":
            return (base, .llama3(llama3(parameters, name)))
        default:
            let supported = family.architecture == "llama" ? "default, linear, llama3" : "default, linear"
            problems.append(
                "RoPE of type \(Self.shown(type)) is not supported for \(family.rawValue); supported: \(supported)")
            return (base, .none)
        }
    }

    private mutating func llama3(_ parameters: JSONValue?, _ name: String) -> Llama3Scaling {
        let number = { (reader: inout Reader, key: String) in
            reader.positive(parameters?[key], "\(name).\(key)", default: nil)
        }
        let context = number(&self, "original_max_position_embeddings")
        let scaling = Llama3Scaling(
            factor: number(&self, "factor"), lowFrequencyFactor: number(&self, "low_freq_factor"),
            highFrequencyFactor: number(&self, "high_freq_factor"),
            originalContext: Int(exactly: context.rounded()) ?? 1)
        if problems.isEmpty, scaling.highFrequencyFactor <= scaling.lowFrequencyFactor {
            problems.append("\(name).high_freq_factor is not above \(name).low_freq_factor")
        }
        return scaling
    }

    // MARK: What a base cannot do

    /// Positions that attention reaches back in some block; nil for all.
    mutating func window(_ family: ModelFamily, blockCount: Int) -> Int? {
        switch family {
        case .llama: return nil
        case .mistral: return isNull("sliding_window") ? nil : size("sliding_window", default: 4096)
        case .qwen2, .qwen3:
            if let types = value("layer_types") {
                let names = types.arrayValue?.map { $0.stringValue ?? "" } ?? [""]
                let unknown = Set(names).subtracting(["full_attention", "sliding_attention"])
                if !unknown.isEmpty {
                    problems.append("layer_types hold other than full_attention and sliding_attention")
                }
                return names.contains("sliding_attention") ? size("sliding_window", default: 4096) : nil
            }
            guard flag("use_sliding_window"), !isNull("sliding_window") else { return nil }
            let first = json["max_window_layers"]?.intValue ?? 28
            return first < blockCount ? size("sliding_window", default: 4096) : nil
        }
    }

    mutating func refuseUnsupported(_ family: ModelFamily) {
        if let activation = value("hidden_act"), activation.stringValue != "silu" {
            problems.append("hidden_act \(Self.shown(activation)) is not supported; supported: silu")
        }
        if family == .llama, flag("mlp_bias") { problems.append("mlp_bias is not supported") }
        if let quantization = value("quantization_config") {
            let method = quantization["quant_method"]?.stringValue ?? "unknown"
            problems.append("quantization_config (\(FormatError.quoted(method))) is not supported; save it unquantised")
        }
        if let share = value("partial_rotary_factor"), share.doubleValue != 1 {
            problems.append("partial_rotary_factor \(Self.shown(share)) is not supported")
        }
    }
}
