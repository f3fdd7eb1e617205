internal import LoRAFormats
public import LoRAModel
public import LoRAText

extension BaseModel {
    /// The tokenizer in the base's file. The embedding may have rows beyond its tokens, as padding, but not fewer.
    /// - Throws: `FormatError` when there is none, or it has tokens that the embedding has no row for.
    public func makeTokenizer() throws -> Tokenizer {
        let tokenizer = try Tokenizer(gguf: file)
        guard tokenizer.vocabularyCount <= configuration.vocabularySize else {
            throw FormatError(
                "the tokenizer has \(tokenizer.vocabularyCount) tokens, but token_embd.weight only "
                    + "\(configuration.vocabularySize) rows; convert the model again", file: file.path)
        }
        return tokenizer
    }
}
