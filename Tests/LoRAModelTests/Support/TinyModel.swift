import CKernels
import Foundation
import LoRAFormats
import Testing

@testable import LoRAModel

/// A llama-architecture base of some thousand weights, all formulas of their Hugging Face names as in
/// `Scripts/tiny_llama_golden.py`, written to a GGUF file that is gone as soon as it is mapped.
struct TinyModel {
    var blocks = 2
    var hidden = 64
    var heads = 4
    var keyValueHeads = 2
    var headSize = 16
    var feedForward = 96
    var vocabulary = 160
    var isTied = true
    /// Of the blocks' matrices.
    var type = GGUFTensorType.f32
    var embeddingType = GGUFTensorType.f32
    /// Divisors of the rotary frequencies; none when empty.
    var ropeFactors: [Float] = []
    var linearFactor: Float?
    /// Keys set otherwise, or left out (nil).
    var keys: [String: GGUFValue?] = [:]
    /// Tensors left out.
    var missing: Set<String> = []
    /// Shapes that a tensor has in place of the right one; tensors of unknown names are added.
    var shapes: [String: [Int]] = [:]

    func make() throws -> BaseModel { try BaseModel(file: file()) }

    /// The mapped file.
    func file() throws -> GGUFFile {
        let path = FileManager.default.temporaryDirectory.appending(path: "tiny-\(UUID().uuidString).gguf").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        try write(path)
        return try GGUFFile(path: path)
    }

    private func write(_ path: String) throws {
        var writer = GGUFWriter()
        for (key, value) in metadata.merging(keys, uniquingKeysWith: { $1 }).sorted(by: { $0.key < $1.key }) {
            if let value { try writer.add(key, value) }
        }
        var known: Set<String> = []
        for tensor in tensors where !missing.contains(tensor.name) {
            known.insert(tensor.name)
            let shape = shapes[tensor.name] ?? tensor.shape
            if shape == tensor.shape {
                let bytes = Self.encode(tensor.values(), tensor.type)
                try writer.addTensor(tensor.name, type: tensor.type, shape: shape, bytes: bytes)
            } else {
                try Self.addZeros(&writer, tensor.name, shape)
            }
        }
        for (name, shape) in shapes where !known.contains(name) { try Self.addZeros(&writer, name, shape) }
        try writer.write(to: path)
    }

    private static func addZeros(_ writer: inout GGUFWriter, _ name: String, _ shape: [Int]) throws {
        let bytes = [UInt8](repeating: 0, count: 4 * shape.reduce(1, *))
        try writer.addTensor(name, type: .f32, shape: shape, bytes: bytes)
    }

    private var metadata: [String: GGUFValue?] {
        var keys: [String: GGUFValue?] = [
            "general.architecture": .string("llama"),
            "llama.block_count": .uint32(UInt32(blocks)),
            "llama.embedding_length": .uint32(UInt32(hidden)),
            "llama.feed_forward_length": .uint32(UInt32(feedForward)),
            "llama.attention.head_count": .uint32(UInt32(heads)),
            "llama.attention.head_count_kv": .uint32(UInt32(keyValueHeads)),
            "llama.attention.key_length": .uint32(UInt32(headSize)),
            "llama.context_length": .uint32(512),
            "llama.attention.layer_norm_rms_epsilon": .float32(1e-5),
            "llama.rope.freq_base": .float32(10_000),
        ]
        if let linearFactor {
            keys["llama.rope.scaling.type"] = .string("linear")
            keys["llama.rope.scaling.factor"] = .float32(linearFactor)
        }
        return keys
    }

    // MARK: Tensors

    private struct Tensor {
        let name: String
        let type: GGUFTensorType
        let shape: [Int]
        let values: () -> [Float]
    }

    /// What a GGUF converter makes of the checkpoint.
    private var tensors: [Tensor] {
        let (C, F, Q, KV) = (hidden, feedForward, heads * headSize, keyValueHeads * headSize)
        var tensors = [
            matrix("token_embd", "model.embed_tokens", vocabulary, C, type: embeddingType, bound: 1),
            norm("output_norm", "model.norm"),
        ]
        if !isTied { tensors.append(matrix("output", "lm_head", vocabulary, C)) }
        if !ropeFactors.isEmpty {
            let factors = ropeFactors
            tensors.append(
                Tensor(name: "rope_freqs.weight", type: .f32, shape: [factors.count], values: { factors }))
        }
        for block in 0..<blocks {
            let (own, other) = ("blk.\(block).", "model.layers.\(block).")
            tensors += [
                norm(own + "attn_norm", other + "input_layernorm"),
                matrix(own + "attn_q", other + "self_attn.q_proj", Q, C, heads: heads),
                matrix(own + "attn_k", other + "self_attn.k_proj", KV, C, heads: keyValueHeads),
                matrix(own + "attn_v", other + "self_attn.v_proj", KV, C),
                matrix(own + "attn_output", other + "self_attn.o_proj", C, Q),
                norm(own + "ffn_norm", other + "post_attention_layernorm"),
                matrix(own + "ffn_gate", other + "mlp.gate_proj", F, C),
                matrix(own + "ffn_up", other + "mlp.up_proj", F, C),
                matrix(own + "ffn_down", other + "mlp.down_proj", C, F),
            ]
        }
        return tensors
    }

    private func norm(_ name: String, _ source: String) -> Tensor {
        Tensor(name: name + ".weight", type: .f32, shape: [hidden]) {
            Self.uniform(source + ".weight", seed: 0, count: hidden, bound: 0.25).map { 1 + $0 }
        }
    }

    private func matrix(
        _ name: String, _ source: String, _ rows: Int, _ columns: Int, heads: Int? = nil, type: GGUFTensorType? = nil,
        bound: Float? = nil
    ) -> Tensor {
        Tensor(name: name + ".weight", type: type ?? self.type, shape: [rows, columns]) {
            let bound = bound ?? Float(2 / Double(columns).squareRoot())
            let values = Self.uniform(source + ".weight", seed: 0, count: rows * columns, bound: bound)
            guard let heads else { return values }
            return Self.permuted(values, heads: heads, columns: columns)
        }
    }

    /// `W.reshape(H, 2, D/2, in).swap(1, 2)`: how rows of q and k stand in a GGUF file.
    static func permuted(_ values: [Float], heads: Int, columns: Int) -> [Float] {
        let half = values.count / columns / heads / 2
        var result: [Float] = []
        for head in 0..<heads {
            for index in 0..<half {
                for part in 0..<2 {
                    let row = (head * 2 + part) * half + index
                    result += values[row * columns..<(row + 1) * columns]
                }
            }
        }
        return result
    }

    /// The formula of `oracle_base.uniform`: a stream of its own for each name.
    static func uniform(_ name: String, seed: UInt64, count: Int, bound: Float) -> [Float] {
        var numbers = Numbers(SplitMix64.hash(name) &+ seed)
        return numbers.floats(count, scale: bound)
    }

    // MARK: Types

    static func encode(_ values: [Float], _ type: GGUFTensorType) -> [UInt8] {
        switch type {
        case .f32: return values.withUnsafeBytes { Array($0) }
        case .bf16: return halves(values, lora_f32_to_bf16)
        case .f16: return halves(values, lora_f32_to_f16)
        case .q8_0:
            return stride(from: 0, to: values.count, by: 32).flatMap { start -> [UInt8] in
                let block = values[start..<start + 32]
                let scale = block.reduce(0) { max($0, abs($1)) } / 127
                return halves([scale], lora_f32_to_f16)
                    + block.map { UInt8(bitPattern: Int8(scale == 0 ? 0 : ($0 / scale).rounded())) }
            }
        case .q4_1:
            return stride(from: 0, to: values.count, by: 32).flatMap { start -> [UInt8] in
                let block = Array(values[start..<start + 32])
                let least = block.reduce(Float.infinity, min)
                let scale = (block.reduce(-Float.infinity, max) - least) / 15
                let digits = block.map { UInt8(scale == 0 ? 0 : (($0 - least) / scale).rounded()) }
                return halves([scale, least], lora_f32_to_f16) + (0..<16).map { digits[$0] | digits[$0 + 16] << 4 }
            }
        default: preconditionFailure("the tests write no \(type)")
        }
    }

    private static func halves(
        _ values: [Float], _ convert: (UnsafeMutablePointer<UInt16>, UnsafePointer<Float>, Int) -> Void
    ) -> [UInt8] {
        var halves = [UInt16](repeating: 0, count: values.count)
        convert(&halves, values, values.count)
        return halves.withUnsafeBytes { Array($0) }
    }
}
