import Foundation
import LoRAFormats
import LoRAModel

/// A llama-architecture base of two blocks and some thousand weights, by formula; its file is gone once it is mapped.
enum TrainerModel {
    static let vocabulary = 96
    private static let (hidden, feedForward, heads, keyValueHeads, headSize) = (32, 64, 4, 2, 8)

    static func make(vocabulary: Int = vocabulary) throws -> BaseModel {
        let path = FileManager.default.temporaryDirectory.appending(path: "tiny-\(UUID().uuidString).gguf").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        var writer = GGUFWriter()
        try writer.add("general.architecture", .string("llama"))
        for (key, value) in [
            ("block_count", 2), ("embedding_length", hidden), ("feed_forward_length", feedForward),
            ("attention.head_count", heads), ("attention.head_count_kv", keyValueHeads), ("context_length", 128),
        ] { try writer.add("llama.\(key)", .uint32(UInt32(value))) }
        try writer.add("llama.attention.layer_norm_rms_epsilon", .float32(1e-5))
        for (name, shape) in shapes(vocabulary) {
            let count = shape.reduce(1, *)
            let isNorm = shape.count == 1
            let values = GoldenAdapter.uniform(
                name: name, seed: 0, count: count, bound: isNorm ? 0.25 : Float(2 / Double(hidden).squareRoot()))
            let bytes = values.map { isNorm ? 1 + $0 : $0 }.withUnsafeBytes { Array($0) }
            try writer.addTensor(name, type: .f32, shape: shape, bytes: bytes)
        }
        try writer.write(to: path)
        return try BaseModel(path: path)
    }

    private static func shapes(_ vocabulary: Int) -> [(String, [Int])] {
        var shapes = [
            ("token_embd.weight", [vocabulary, hidden]), ("output.weight", [vocabulary, hidden]),
            ("output_norm.weight", [hidden]),
        ]
        for block in 0..<2 {
            shapes += [
                ("attn_norm", [hidden]), ("attn_q", [heads * headSize, hidden]),
                ("attn_k", [keyValueHeads * headSize, hidden]), ("attn_v", [keyValueHeads * headSize, hidden]),
                ("attn_output", [hidden, heads * headSize]), ("ffn_norm", [hidden]),
                ("ffn_gate", [feedForward, hidden]), ("ffn_up", [feedForward, hidden]),
                ("ffn_down", [hidden, feedForward]),
            ].map { ("blk.\(block).\($0.0).weight", $0.1) }
        }
        return shapes
    }
}
