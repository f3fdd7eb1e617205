public import LoRAFormats
public import LoRAModel

/// Between the adapter formats of PEFT, MLX and llama.cpp and `.lora` files.
public enum AdapterConversion {
    /// Writes the adapter at `source` (PEFT directory, MLX directory, GGUF adapter) as a `.lora` file for `base`.
    /// - Throws: `FormatError` that names every tensor and key that does not fit.
    public static func importAdapter(from source: String, base: BaseModel, to output: String) throws {
        throw FormatError("importing an adapter is not built yet", file: source)
    }
}
