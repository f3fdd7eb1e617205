public import LoRAFormats
import LoRAModel

/// Between a Hugging Face directory and a base.
public enum BaseConversion {
    /// What was converted.
    public struct Report: Sendable {
        public let architecture: String
        /// Elements of all tensors.
        public let parameterCount: Int
        /// What the user should know.
        public let notes: [String]
    }

    /// Writes the model of the Hugging Face directory `source`, or of the GGUF file `source`, as a base. Tensors go
    /// through one after another: memory does not grow with the model.
    /// - Parameter type: of matrices: F32, F16, BF16 or Q8_0; nil keeps each one's own. Vectors of a directory become F32.
    /// - Throws: `FormatError` that names everything in `source` that is missing, surplus or not supported; nothing is
    ///   written then.
    @discardableResult
    public static func importBase(from source: String, to output: String, type: GGUFTensorType?) throws -> Report {
        isDirectory(source)
            ? try importCheckpoint(source, to: output, type: type)
            : try importFile(source, to: output, type: type)
    }

    /// Writes `base` as a Hugging Face directory: config.json, safetensors, tokenizer files.
    /// - Parameter type: of all tensors: F32, F16 or BF16; nil takes the smallest that holds every value exactly.
    /// - Throws: `FormatError` when it cannot be written, or `directory` holds something already.
    public static func exportBase(_ base: GGUFFile, to directory: String, type: SafetensorsType? = nil) throws {
        try exportCheckpoint(
            BaseModel(file: base), to: directory, type: type, shardBytes: 5_000_000_000)
    }

    /// The type that a matrix of `columns` is written in when `type` is asked for: rows that are not whole blocks stay
    /// F16, as in llama.cpp's converter.
    static func matrixType(_ type: GGUFTensorType, columns: Int) -> GGUFTensorType {
        columns.isMultiple(of: type.blockSize) ? type : .f16
    }
}
