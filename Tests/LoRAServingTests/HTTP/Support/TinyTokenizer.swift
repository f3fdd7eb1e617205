import LoRAFormats
import LoRAModel
import LoRAText

/// A tokenizer of bytes with ChatML's tokens, without a model.
enum TinyTokenizer {
    static let template =
        "{% for m in messages %}{% if m['role'] == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
        + "{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n'}}{% endfor %}"
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

    /// Special tokens first, then one for each byte.
    private static let tokens =
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + (0..<256).map { letter(UInt8($0)) } + ["th"]

    static func make() throws -> Tokenizer {
        try Tokenizer(metadata: [
            "tokenizer.ggml.model": .string("gpt2"), "tokenizer.ggml.pre": .string("smollm"),
            "tokenizer.ggml.tokens": .strings(tokens),
            "tokenizer.ggml.token_type": .int32s(tokens.indices.map { $0 < 3 ? 3 : 1 }),
            "tokenizer.ggml.merges": .strings(["t h"]), "tokenizer.ggml.bos_token_id": .uint32(1),
            "tokenizer.ggml.eos_token_id": .uint32(2), "tokenizer.ggml.add_bos_token": .bool(false),
        ])
    }

    /// What byte-level BPE writes for a byte: printable Latin-1 as it is, all others from U+0100 on.
    private static func letter(_ byte: UInt8) -> String {
        let isPrintable = (33...126).contains(byte) || (161...172).contains(byte) || (174...255).contains(byte)
        if isPrintable { return String(Character(Unicode.Scalar(byte))) }
        let place: UInt32 =
            switch byte {
            case 0...32: UInt32(byte)
            case 127...160: UInt32(byte) - 127 + 33
            default: 67
            }
        return Unicode.Scalar(256 + place).map { String(Character($0)) } ?? ""
    }

    /// Of an adapter without any pair.
    static let noParameters: AdapterParameters = {
        let sizes: [String: GGUFValue] = [
            "general.architecture": .string("llama"), "llama.block_count": .uint32(1),
            "llama.embedding_length": .uint32(64), "llama.feed_forward_length": .uint32(64),
            "llama.attention.head_count": .uint32(4), "llama.context_length": .uint32(256),
            "llama.attention.layer_norm_rms_epsilon": .float32(1e-5),
        ]
        do {
            let configuration = try ModelConfiguration(metadata: sizes, vocabularySize: 260, file: "none")
            return AdapterParameters(layout: AdapterLayout(configuration: configuration) { _, _ in nil })
        } catch {
            preconditionFailure("\(error)")
        }
    }()
}
