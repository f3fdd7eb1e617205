import LoRAFormats

/// A `llama` model of two blocks with random weights: C = 64, H = 4, K = 2, D = 16, F = 128, V = 262.
public struct TinyBase {
    public static let contextLength = 256
    private static let (C, Q, KV, F) = (64, 64, 32, 128)
    public static let template =
        "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

    let seed: UInt64
    public var template: String? = TinyBase.template
    /// Rows of the embedding, when they shall not be as many as tokens.
    public var embeddingRows: Int?
    public var hasTensors = true
    /// A tensor to leave out, without ".weight".
    public var missingTensor: String?

    public init(seed: UInt64) { self.seed = seed }

    /// Special tokens first, then a token for each byte, then what merges make.
    public static let tokens: [String] =
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + (0..<256).map { letter(UInt8($0)) }
        + merges.map {
            $0.filter { $0 != " " }
        }
    static let merges = ["t h", "th e", "o w"]

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

    public func write(to path: String) throws {
        var writer = GGUFWriter()
        try addKeys(&writer)
        if hasTensors { try addTensors(&writer) }
        try writer.write(to: path)
    }

    private func addKeys(_ writer: inout GGUFWriter) throws {
        try writer.add("general.architecture", .string("llama"))
        try writer.add("general.name", .string("Tiny"))
        let sizes: [(String, Int)] = [
            ("block_count", 2), ("context_length", Self.contextLength), ("embedding_length", Self.C),
            ("feed_forward_length", Self.F), ("attention.head_count", 4), ("attention.head_count_kv", 2),
            ("rope.dimension_count", 16), ("vocab_size", Self.tokens.count),
        ]
        for (name, value) in sizes { try writer.add("llama.\(name)", .uint32(UInt32(value))) }
        try writer.add("llama.rope.freq_base", .float32(10_000))
        try writer.add("llama.attention.layer_norm_rms_epsilon", .float32(1e-5))
        try writer.add("tokenizer.ggml.model", .string("gpt2"))
        try writer.add("tokenizer.ggml.pre", .string("smollm"))
        try writer.add("tokenizer.ggml.tokens", .strings(Self.tokens))
        try writer.add(
            "tokenizer.ggml.token_type", .int32s(Self.tokens.indices.map { $0 < 3 ? 3 : 1 }))
        try writer.add("tokenizer.ggml.merges", .strings(Self.merges))
        try writer.add("tokenizer.ggml.bos_token_id", .uint32(1))
        try writer.add("tokenizer.ggml.eos_token_id", .uint32(2))
        try writer.add("tokenizer.ggml.add_bos_token", .bool(false))
        if let template { try writer.add("tokenizer.chat_template", .string(template)) }
    }

    private func addTensors(_ writer: inout GGUFWriter) throws {
        var state = seed
        func add(_ name: String, _ shape: [Int], _ size: Float) throws {
            if name == missingTensor { return }
            let values = (0..<shape.reduce(1, *)).map { _ in size * Self.next(&state) }
            try writer.addTensor(name + ".weight", type: .f32, shape: shape, bytes: Self.bytes(values))
        }
        func addOnes(_ name: String) throws {
            if name == missingTensor { return }
            let ones = [Float](repeating: 1, count: Self.C)
            try writer.addTensor(name + ".weight", type: .f32, shape: [Self.C], bytes: Self.bytes(ones))
        }
        try add("token_embd", [embeddingRows ?? Self.tokens.count, Self.C], 0.5)
        for block in 0..<2 {
            try addOnes("blk.\(block).attn_norm")
            try addOnes("blk.\(block).ffn_norm")
            for (name, rows, columns) in [
                ("attn_q", Self.Q, Self.C), ("attn_k", Self.KV, Self.C), ("attn_v", Self.KV, Self.C),
                ("attn_output", Self.C, Self.Q), ("ffn_gate", Self.F, Self.C), ("ffn_up", Self.F, Self.C),
                ("ffn_down", Self.C, Self.F),
            ] {
                try add("blk.\(block).\(name)", [rows, columns], 0.2)
            }
        }
        try addOnes("output_norm")
    }

    /// From -1 to 1, by Knuth's MMIX generator.
    private static func next(_ state: inout UInt64) -> Float {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Float(state >> 40) / Float(1 << 23) - 1
    }

    private static func bytes(_ values: [Float]) -> [UInt8] {
        values.flatMap { value in withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) } }
    }
}
