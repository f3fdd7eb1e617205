public import LoRAFormats

/// Between Hugging Face's tokenizer files and the `tokenizer.*` keys of a GGUF file.
public enum TokenizerConversion {
    /// The keys for the tokenizer in `directory` (tokenizer.json, tokenizer_config.json, generation_config.json, chat
    /// template).
    /// - Throws: `FormatError` when the tokenizer is of a kind that `Tokenizer` does not know.
    public static func keys(directory: String, vocabularySize: Int) throws -> [(key: String, value: GGUFValue)] {
        throw FormatError("importing a tokenizer is not built yet", file: directory)
    }

    /// Writes the tokenizer of `base` as tokenizer.json, tokenizer_config.json and generation_config.json.
    /// - Throws: `FormatError` when it cannot be written.
    public static func export(_ base: GGUFFile, to directory: String) throws {
        throw FormatError("exporting a tokenizer is not built yet", file: base.path)
    }
}
