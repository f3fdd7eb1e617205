import LoRAFormats
import LoRAText

/// The real base's tokenizer and chat template, read once for all tests.
enum TestBase {
    static let tokenizer = Result { try Tokenizer(gguf: GGUFFile(path: TestFiles.base)) }

    static let format = Result {
        guard let format = try ChatFormat(gguf: GGUFFile(path: TestFiles.base), tokenizer: tokenizer.get()) else {
            throw FormatError("the base has no chat template", file: TestFiles.base)
        }
        return format
    }
}
