import LoRAFormats
import LoRAText

/// The real base's tokenizer and chat template, read once for all tests.
enum TestBase {
    static let tokenizer = Result { try Tokenizer(gguf: GGUFFile(path: TestFiles.base)) }

    static let template = Result {
        guard case .string(let source)? = try GGUFFile(path: TestFiles.base).metadata["tokenizer.chat_template"] else {
            throw FormatError("the base has no chat template", file: TestFiles.base)
        }
        return try ChatTemplate(source: source)
    }
}
