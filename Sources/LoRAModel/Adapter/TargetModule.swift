/// A projection that can get an A/B pair; raw values are PEFT's names.
public enum TargetModule: String, Sendable, CaseIterable, Hashable {
    case queryProjection = "q_proj"
    case keyProjection = "k_proj"
    case valueProjection = "v_proj"
    case outputProjection = "o_proj"
    case gateProjection = "gate_proj"
    case upProjection = "up_proj"
    case downProjection = "down_proj"

    public static let attention: [TargetModule] = [
        .queryProjection, .keyProjection, .valueProjection, .outputProjection,
    ]

    /// The name of the part of a Hugging Face block that holds the projection.
    public var parent: String {
        switch self {
        case .queryProjection, .keyProjection, .valueProjection, .outputProjection: "self_attn"
        case .gateProjection, .upProjection, .downProjection: "mlp"
        }
    }

    /// The projection's part of a GGUF tensor's name, as in `blk.3.attn_q.weight`.
    public var ggufName: String {
        switch self {
        case .queryProjection: "attn_q"
        case .keyProjection: "attn_k"
        case .valueProjection: "attn_v"
        case .outputProjection: "attn_output"
        case .gateProjection: "ffn_gate"
        case .upProjection: "ffn_up"
        case .downProjection: "ffn_down"
        }
    }

    /// Hugging Face's name of the projection in `block`: `model.layers.3.self_attn.q_proj`.
    public func moduleName(block: Int) -> String { "model.layers.\(block).\(parent).\(rawValue)" }

    /// (out, in) of the projection in `configuration`.
    public func shape(in configuration: ModelConfiguration) -> (outputs: Int, inputs: Int) {
        let (C, F) = (configuration.hiddenSize, configuration.feedForwardSize)
        return switch self {
        case .queryProjection: (configuration.querySize, C)
        case .keyProjection, .valueProjection: (configuration.keyValueSize, C)
        case .outputProjection: (C, configuration.querySize)
        case .gateProjection, .upProjection: (F, C)
        case .downProjection: (C, F)
        }
    }
}
