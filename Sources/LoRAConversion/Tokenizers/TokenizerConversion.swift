public import LoRAFormats
import LoRAText

/// Between Hugging Face's tokenizer files and the `tokenizer.*` keys of a GGUF file, with llama.cpp's conventions.
///
/// Two kinds of BPE travel: over bytes (`tokenizer.ggml.model` "gpt2") and SentencePiece's (`"llama"`).
public enum TokenizerConversion {
    /// The keys for the tokenizer in `directory`: tokenizer.json, and where they exist tokenizer_config.json,
    /// special_tokens_map.json, generation_config.json, config.json and the chat template.
    /// - Parameter vocabularySize: Rows of the model's embedding (V); ids without a token become unused ones.
    /// - Throws: `FormatError` naming what would change the ids and is not supported.
    public static func keys(directory: String, vocabularySize: Int) throws -> [(key: String, value: GGUFValue)] {
        let files = try TokenizerFiles(directory: directory)
        return try keys(files: files, vocabularySize: vocabularySize)
    }

    /// Writes the tokenizer of `base` as tokenizer.json, tokenizer_config.json, generation_config.json and, when it has
    /// a chat template, chat_template.jinja.
    /// - Throws: `FormatError` when the base has no usable tokenizer or a file cannot be written.
    public static func export(_ base: GGUFFile, to directory: String) throws {
        let source = try TokenizerExport(base)
        try AtomicFile.write(source.tokenizerText(), to: directory + "/tokenizer.json")
        try AtomicFile.write(source.configuration().serialized(pretty: true), to: directory + "/tokenizer_config.json")
        try AtomicFile.write(
            source.generationConfiguration().serialized(pretty: true), to: directory + "/generation_config.json")
        if let template = base.metadata["tokenizer.chat_template"]?.stringValue {
            try AtomicFile.write(template, to: directory + "/chat_template.jinja")
        }
    }

    /// The keys for the tokenizer in `files`, which a `Tokenizer` has accepted.
    static func keys(files: TokenizerFiles, vocabularySize: Int) throws -> [(key: String, value: GGUFValue)] {
        var keys = try FormatError.relocating(in: files.path) {
            try tokenizerKeys(files: files, vocabularySize: vocabularySize)
        }
        keys += try files.chatTemplateKeys()
        return keys
    }

    private static func tokenizerKeys(
        files: TokenizerFiles, vocabularySize: Int
    ) throws -> [(key: String, value: GGUFValue)] {
        let pipeline = try TokenizerPipeline(files.tokenizer)
        var vocabulary = try ImportedVocabulary(files.tokenizer, pipeline: pipeline, size: vocabularySize)
        let special = try SpecialTokens(files, vocabulary: vocabulary)
        if pipeline.isSentencePiece, let unknown = special.unknownID { vocabulary.markUnknown(unknown) }
        var keys: [(key: String, value: GGUFValue)] = [
            ("tokenizer.ggml.model", .string(pipeline.model)),
            ("tokenizer.ggml.pre", .string(pipeline.preTokenizer)),
            ("tokenizer.ggml.tokens", .strings(vocabulary.tokens)),
            ("tokenizer.ggml.token_type", .int32s(vocabulary.types)),
            ("tokenizer.ggml.merges", .strings(vocabulary.merges)),
        ]
        if pipeline.isSentencePiece {
            keys.append(("tokenizer.ggml.scores", .float32s(vocabulary.scores())))
            keys.append(("tokenizer.ggml.add_space_prefix", .bool(pipeline.spacePrefix != .none)))
            if let scheme = pipeline.spacePrefix.metaspaceScheme {
                keys.append((SpacePrefix.metaspaceKey, .string(scheme)))
            }
        }
        keys += special.keys
        _ = try Tokenizer(metadata: Dictionary(keys) { first, _ in first })
        return keys
    }
}
