import Foundation
import LoRAFormats
import Testing

@testable import LoRAConversion

@Suite("Tokenizers that are refused")
struct TokenizerRefusalTests {
    /// The error for the golden tokenizer `name` with one text of its tokenizer.json replaced by another.
    static func refusal(_ name: String, _ text: String, _ other: String, size: Int = 1700) throws -> String {
        let path = TokenizerGoldens.directory.appending(path: name).path
        let original = try String(contentsOfFile: path + "/tokenizer.json", encoding: .utf8)
        try #require(original.contains(text), "\(text)")
        return try TokenizerGoldens.withDirectory { directory in
            let changed = original.replacing(text, with: other, maxReplacements: 1)
            try changed.write(toFile: directory + "/tokenizer.json", atomically: false, encoding: .utf8)
            return try message(directory, size: size)
        }
    }

    static func message(_ directory: String, size: Int = 1700) throws -> String {
        do {
            _ = try TokenizerConversion.keys(directory: directory, vocabularySize: size)
            return "accepted"
        } catch let error as FormatError {
            #expect(error.file?.hasPrefix(directory) == true && !error.description.contains("\n"))
            return error.message
        }
    }

    @Test(
        "What would change the ids is named",
        arguments: [
            ("bytes", "\"type\":\"BPE\"", "\"type\":\"Unigram\"", "'Unigram'"),
            ("bytes", "\"dropout\":null", "\"dropout\":0.1", "dropout 0.1"),
            ("bytes", "\"end_of_word_suffix\":null", "\"end_of_word_suffix\":\"</w>\"", "end_of_word_suffix '</w>'"),
            ("bytes", "\"normalizer\":null", "\"normalizer\":{\"type\":\"NFKC\"}", "NFKC"),
            ("bytes", "\"individual_digits\":true", "\"individual_digits\":false", "Digits"),
            ("bytes", "\"ignore_merges\":false", "\"ignore_merges\":true", "ignore_merges"),
            ("bytes", "\"byte_fallback\":false", "\"byte_fallback\":true", "Digits"),
            ("bytes", "\"rstrip\":false", "\"rstrip\":true", "'<unk>' has rstrip"),
            ("bytes", "\"content\":\"<s>\"", "\"content\":\"<S>\"", "'<s>' in model.vocab and that of '<S>'"),
            ("bytes", "\"<s>\":1,", "\"<s>\":2,", "the id 2 twice"),
            ("bytes", "\"<s>\":1,", "\"<s>\":1700,", "'<s>' is 1700, but the model has 1700"),
            ("bytes", "\"<s>\":1,", "\"<s>\":-1,", "'<s>' is -1"),
            ("bytes", "\"merges\":[[\"", "\"merges\":[[\"a b", "merges[0]"),
            ("bytes", "\"merges\":[[\"", "\"merges\":[[\"€", "merges[0]"),
            (
                "prepend", "\"type\":\"Prepend\",\"prepend\":\"▁\"", "\"type\":\"Prepend\",\"prepend\":\"_\"",
                "Prepend '_'"
            ),
            ("metaspace-first", "\"split\":false", "\"split\":true", "Metaspace"),
            ("metaspace-first", "\"prepend_scheme\":\"first\"", "\"prepend_scheme\":\"last\"", "Metaspace last"),
            ("bare", "\"<0x0A>\"", "\"<0x0a>\"", "no token <0x0A>"),
            ("bare", "\"behavior\":\"MergedWithPrevious\"", "\"behavior\":\"Removed\"", "Split"),
        ])
    func names(name: String, text: String, other: String, expected: String) throws {
        let refusal = try Self.refusal(name, text, other)
        #expect(refusal.contains(expected), "\(refusal)")
    }

    @Test("A vocabulary larger than the model's is refused, and senseless sizes")
    func sizes() throws {
        let directory = TokenizerGoldens.directory.appending(path: "bytes").path
        for size in [0, -1, 100, .max] {
            #expect(try Self.message(directory, size: size) != "accepted", "\(size)")
        }
        #expect(try Self.message(directory) == "accepted")
    }

    @Test("A token that ends texts and is not there; files that are missing or no objects")
    func files() throws {
        let json = try Data(contentsOf: TokenizerGoldens.directory.appending(path: "bytes/tokenizer.json"))
        try TokenizerGoldens.withDirectory { directory in
            func message(_ name: String, _ text: String) throws -> String {
                try Data(text.utf8).write(to: URL(filePath: directory + "/" + name))
                defer { try? FileManager.default.removeItem(atPath: directory + "/" + name) }
                return try Self.message(directory)
            }
            #expect(try Self.message(directory).contains("no tokenizer.json"))
            try json.write(to: URL(filePath: directory + "/tokenizer.json"))
            #expect(try message("tokenizer_config.json", "{\"eos_token\":\"<end>\"}").contains("eos_token is '<end>'"))
            #expect(try message("tokenizer_config.json", "[1]").contains("not an object"))
            #expect(try message("config.json", "{").contains("JSON"))
            #expect(try message("tokenizer_config.json", "{\"chat_template\":[{}]}").contains("chat_template"))
            #expect(try Self.message(directory) == "accepted")
        }
    }

    @Test("Ends of texts, templates and options come from the files beside")
    func filesBeside() throws {
        try TokenizerGoldens.withDirectory { directory in
            let json = try Data(contentsOf: TokenizerGoldens.directory.appending(path: "bytes/tokenizer.json"))
            try json.write(to: URL(filePath: directory + "/tokenizer.json"))
            for (name, text) in [
                (
                    "tokenizer_config.json",
                    "{\"chat_template\":[{\"name\":\"default\",\"template\":\"a\"},{\"name\":\"tool_use\",\"template\":\"b\"}],\"add_eos_token\":true}"
                ),
                ("special_tokens_map.json", "{\"eos_token\":{\"content\":\"</s>\"}}"),
                ("generation_config.json", "{\"eos_token_id\":[2,4,5,6],\"bos_token_id\":1}"),
                ("config.json", "{\"pad_token_id\":0,\"eos_token_id\":3}"),
            ] { try text.write(toFile: directory + "/" + name, atomically: false, encoding: .utf8) }
            let keys = try TokenizerGoldens.metadata(in: directory)
            let ids = ["bos", "eos", "padding", "eot", "eom"].map { keys["tokenizer.ggml.\($0)_token_id"]?.intValue }
            #expect(ids == [1, 2, 0, 5, 6])
            #expect(keys["tokenizer.chat_template"] == .string("a"))
            #expect(keys["tokenizer.chat_template.tool_use"] == .string("b"))
            #expect(keys["tokenizer.ggml.add_eos_token"] == .bool(true))
            #expect(keys["tokenizer.ggml.add_bos_token"] == .bool(false))
        }
    }
}
