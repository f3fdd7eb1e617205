import LoRAFormats
import Testing

@testable import LoRAModel

/// Loading does not multiply, so these need not wait for the kernels' tests.
@Suite("Loading a base")
struct BaseModelTests {
    @Test("The hyperparameters of a file")
    func configuration() throws {
        let tiny = TinyModel(
            blocks: 3, heads: 8, keyValueHeads: 4, headSize: 16, feedForward: 128, vocabulary: 200, linearFactor: 4)
        let configuration = try tiny.make().configuration
        #expect(configuration.architecture == "llama")
        #expect(configuration.blockCount == 3)
        #expect(
            (configuration.hiddenSize, configuration.feedForwardSize, configuration.vocabularySize) == (64, 128, 200))
        #expect((configuration.headCount, configuration.keyValueHeadCount, configuration.headSize) == (8, 4, 16))
        #expect((configuration.querySize, configuration.keyValueSize) == (128, 64))
        #expect(configuration.contextLength == 512)
        #expect(configuration.normEpsilon == 1e-5)
        #expect((configuration.ropeBase, configuration.ropeLinearFactor) == (10_000, 4))
    }

    @Test("Keys with defaults may be absent")
    func defaults() throws {
        var tiny = TinyModel(heads: 4, keyValueHeads: 4)
        for key in ["attention.head_count_kv", "attention.key_length", "rope.freq_base"] {
            tiny.keys["llama.\(key)"] = .some(nil)
        }
        let configuration = try tiny.make().configuration
        #expect((configuration.keyValueHeadCount, configuration.headSize, configuration.ropeBase) == (4, 16, 10_000))
    }

    @Test(
        "A key that is missing is named",
        arguments: [
            "block_count", "embedding_length", "feed_forward_length", "attention.head_count", "context_length",
            "attention.layer_norm_rms_epsilon",
        ])
    func missingKey(key: String) {
        let text = message { _ = try TinyModel(keys: ["llama.\(key)": nil]).make() }
        #expect(text.contains("key llama.\(key) is missing"))
        #expect(!text.contains("\n"))
    }

    @Test("All keys that are missing are in one error")
    func missingKeys() {
        let keys = ["block_count", "embedding_length", "context_length"].map { "llama.\($0)" }
        let tiny = TinyModel(keys: Dictionary(uniqueKeysWithValues: keys.map { ($0, GGUFValue?.none) }))
        let text = message { _ = try tiny.make() }
        for key in keys { #expect(text.contains("key \(key) is missing")) }
    }

    static let badValues: [(String, GGUFValue, String)] = [
        ("block_count", GGUFValue.uint32(0), "from 1 to 4096"), ("block_count", .uint32(5000), "from 1 to 4096"),
        ("block_count", .string("two"), "from 1 to 4096"), ("block_count", .int32(-1), "from 1 to 4096"),
        ("embedding_length", .uint64(.max), "from 1 to"), ("embedding_length", .uint32(1 << 17), "from 1 to"),
        ("feed_forward_length", .uint32(1 << 17), "from 1 to"),
        ("attention.head_count", .uint32(0), "from 1 to"), ("attention.head_count_kv", .uint32(0), "from 1 to"),
        ("attention.head_count_kv", .uint32(3), "4 heads cannot share 3 key/value heads"),
        ("attention.head_count_kv", .uint32(8), "4 heads cannot share 8 key/value heads"),
        ("attention.key_length", .uint32(12), "head size 12 must be a multiple of 8"),
        ("attention.key_length", .uint32(512), "from 1 to 256"),
        ("attention.value_length", .uint32(32), "value heads of 32 beside keys of 16"),
        ("attention.layer_norm_rms_epsilon", .float32(.nan), "must be a positive number"),
        ("attention.layer_norm_rms_epsilon", .float32(0), "must be a positive number"),
        ("rope.freq_base", .float32(-1), "must be a positive number"),
        ("rope.freq_base", .float64(.infinity), "must be a positive number"),
        ("rope.dimension_count", .uint32(8), "RoPE over 8 of 16 dimensions"),
        ("rope.scaling.type", .string("yarn"), "RoPE scaling \"yarn\" is not supported"),
        ("expert_count", .uint32(8), "mixtures of experts are not supported"),
    ]

    @Test("Values out of range are refused", arguments: badValues)
    func values(key: String, value: GGUFValue, expected: String) {
        let text = message { _ = try TinyModel(keys: ["llama.\(key)": value]).make() }
        #expect(text.contains(expected))
        #expect(!text.contains("\n"))
    }

    @Test("Heads that are together wider than any product are refused")
    func width() {
        let tiny = TinyModel(
            keys: ["llama.attention.head_count": .uint32(4096), "llama.attention.key_length": .uint32(256)])
        #expect(message { _ = try tiny.make() }.contains("4096 heads of 256 are wider than 65536"))
    }

    @Test("What is no model, or another architecture, is told so")
    func architecture() {
        let key = "general.architecture"
        #expect(message { _ = try TinyModel(keys: [key: nil]).make() }.contains("no general.architecture"))
        let text = message { _ = try TinyModel(keys: [key: .string("gemma")]).make() }
        #expect(text.contains("architecture 'gemma' is not supported; supported: llama, qwen2, qwen3"))
    }

    @Test("More tokens than the embedding has rows are refused, fewer are not")
    func tokens() throws {
        let key = "tokenizer.ggml.tokens"
        let names = (0..<161).map { "t\($0)" }
        let text = message { _ = try TinyModel(keys: [key: .strings(names)]).make() }
        #expect(text.contains("161 tokens beside an embedding of 160 rows"))
        #expect(try TinyModel(keys: [key: .strings(names.dropLast(2))]).make().configuration.vocabularySize == 160)
    }

    static let names: [String] = [
        "token_embd", "output_norm", "blk.1.attn_norm", "blk.1.attn_q", "blk.1.attn_k", "blk.1.attn_v",
        "blk.1.attn_output", "blk.1.ffn_norm", "blk.1.ffn_gate", "blk.1.ffn_up", "blk.1.ffn_down",
    ]

    @Test("A tensor that is missing is named", arguments: names)
    func missingTensor(name: String) {
        let text = message { _ = try TinyModel(missing: ["\(name).weight"]).make() }
        #expect(text.contains("\(name).weight"))
        #expect(!text.contains("\n"))
    }

    @Test("A tensor of another shape is named with both", arguments: names)
    func wrongShape(name: String) {
        let text = message { _ = try TinyModel(shapes: ["\(name).weight": [8, 24]]).make() }
        #expect(text.contains("tensor \(name).weight has shape [8, 24], expected ["))
        #expect(!text.contains("\n"))
    }

    @Test("Everything wrong with the tensors is in one error; an unknown bias is wrong")
    func tensors() {
        let tiny = TinyModel(
            missing: ["blk.0.attn_q.weight", "blk.1.ffn_down.weight"],
            shapes: ["blk.0.ffn_gate.weight": [96, 32], "blk.0.ffn_gate.bias": [64], "output_norm.weight": [63]])
        let text = message { _ = try tiny.make() }
        for part in [
            "tensor blk.0.attn_q.weight is missing", "tensor blk.1.ffn_down.weight is missing",
            "tensor blk.0.ffn_gate.weight has shape [96, 32], expected [96, 64]",
            "tensor output_norm.weight has shape [63], expected [64]",
            "tensor blk.0.ffn_gate.bias is not part of the supported architecture",
        ] { #expect(text.contains(part)) }
        #expect(!text.contains("\n"))
    }

    @Test("Of very many problems the first are shown and the rest counted")
    func manyProblems() {
        let tiny = TinyModel(keys: ["llama.block_count": .uint32(4)])
        #expect(message { _ = try tiny.make() }.contains("and 6 more"))
    }

    @Test("Rotary factors have one shape and are positive numbers")
    func ropeFactors() {
        #expect(message { _ = try TinyModel(ropeFactors: [1, 2, 3]).make() }.contains("has shape [3], expected [8]"))
        for bad in [0, -1, Float.nan, .infinity] {
            let tiny = TinyModel(ropeFactors: [1, 1, 1, bad, 1, 1, 1, 1])
            #expect(message { _ = try tiny.make() }.contains("rope_freqs.weight must hold positive numbers"))
        }
    }
}
