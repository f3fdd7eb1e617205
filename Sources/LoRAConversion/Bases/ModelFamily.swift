/// A family of models whose Hugging Face checkpoints can become a base; raw values are config.json's `model_type`.
enum ModelFamily: String, CaseIterable {
    case llama, mistral, qwen2, qwen3

    /// GGUF's name of the architecture.
    var architecture: String { self == .mistral ? "llama" : rawValue }

    /// The class in transformers.
    var className: String { rawValue.prefix(1).uppercased() + rawValue.dropFirst() + "ForCausalLM" }

    /// The family in which an architecture's checkpoints are written: Mistral's are Llama's in all but name.
    init?(architecture: String) {
        guard let family = Self(rawValue: architecture), family.architecture == architecture else { return nil }
        self = family
    }
}
