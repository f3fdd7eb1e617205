import Foundation
import LoRAFormats
import LoRAModel

/// The keys of a GGUF file, as llama.cpp's converter writes them (`gguf.constants.Keys`).
extension CheckpointConfiguration {
    /// All keys before the tokenizer's.
    /// - Parameter matrixType: type of most matrices.
    func keys(
        name: String, parameterCount: Int, matrixType: GGUFTensorType
    ) -> [(key: String, value: GGUFValue)] {
        [
            ("general.architecture", .string(family.architecture)),
            ("general.type", .string("model")),
            ("general.name", .string(name)),
            ("general.size_label", .string(Self.sizeLabel(parameterCount))),
        ] + hyperparameters + [("general.file_type", .uint32(matrixType.fileType))]
    }

    /// The `<architecture>.*` keys.
    private var hyperparameters: [(key: String, value: GGUFValue)] {
        var keys: [(String, GGUFValue)] = [
            ("block_count", .uint32(UInt32(blockCount))),
            ("context_length", .uint32(UInt32(contextLength))),
            ("embedding_length", .uint32(UInt32(hiddenSize))),
            ("feed_forward_length", .uint32(UInt32(feedForwardSize))),
            ("attention.head_count", .uint32(UInt32(headCount))),
            ("attention.head_count_kv", .uint32(UInt32(keyValueHeadCount))),
            ("rope.freq_base", .float32(Float(ropeBase))),
            ("attention.layer_norm_rms_epsilon", .float32(Float(normEpsilon))),
            ("attention.key_length", .uint32(UInt32(headSize))),
            ("attention.value_length", .uint32(UInt32(headSize))),
            ("vocab_size", .uint32(UInt32(vocabularySize))),
            ("rope.dimension_count", .uint32(UInt32(headSize))),
        ]
        if case .linear(let factor) = ropeScaling {
            keys.append(("rope.scaling.type", .string("linear")))
            keys.append(("rope.scaling.factor", .float32(Float(factor))))
        }
        return keys.map { ("\(family.architecture).\($0)", $1) }
    }

    /// The tensor rope_freqs.weight (D/2); empty for none.
    func ropeDivisors(headSize: Int) -> [Float] {
        guard case .llama3(let scaling) = ropeScaling else { return [] }
        return scaling.divisors(base: ropeBase, headSize: headSize)
    }

    /// The configuration that a base of these keys would have.
    /// - Throws: `FormatError` that names every key that no base can have.
    func modelConfiguration(tokenizer: [(key: String, value: GGUFValue)], file: String) throws -> ModelConfiguration {
        let keys = self.keys(name: "", parameterCount: 0, matrixType: .f32) + tokenizer
        return try ModelConfiguration(
            metadata: Dictionary(keys.map { ($0.key, $0.value) }) { first, _ in first },
            vocabularySize: vocabularySize, file: file)
    }

    /// A parameter count as model names tell it: 135M, 1.7B (`gguf.utility.size_label`).
    static func sizeLabel(_ count: Int) -> String {
        let units: [(Double, String)] = [(1e12, "T"), (1e9, "B"), (1e6, "M"), (0, "K")]
        let (unit, letter) = units.first { Double(count) > $0.0 } ?? (0, "K")
        let scaled = Double(count) / (unit == 0 ? 1e3 : unit)
        let digits = scaled.rounded() < 1 ? 2 : scaled.rounded() < 10 ? 1 : 0
        return String(format: "%.\(digits)f", scaled) + letter
    }
}
