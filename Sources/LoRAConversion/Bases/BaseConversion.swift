public import LoRAFormats

/// Between a Hugging Face directory and a base.
public enum BaseConversion {
    /// Writes the model of the Hugging Face directory `source`, or of the GGUF file `source`, as a base.
    /// - Throws: `FormatError` that names everything in `source` that is missing, surplus or not supported.
    public static func importBase(from source: String, to output: String, type: GGUFTensorType?) throws {
        throw FormatError("importing a base is not built yet", file: source)
    }

    /// Writes `base` as a Hugging Face directory.
    /// - Throws: `FormatError` when it cannot be written.
    public static func exportBase(_ base: GGUFFile, to directory: String) throws {
        throw FormatError("exporting a base is not built yet", file: base.path)
    }
}
