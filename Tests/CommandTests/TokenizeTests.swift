import Foundation
import LoRAFormats
import OrderedCollections
import TestSupport
import Testing

@Suite("lora tokenize")
struct TokenizeTests {
    private func tokenize(_ more: [String], input: [UInt8]? = nil) throws -> Program.Output {
        try lora(["tokenize", "--base", Fixtures.tinyBase()] + more, input: input)
    }

    /// The ids of bytes that no merge joins.
    private func ids(_ bytes: [UInt8]) -> [Int] { bytes.map { Int($0) + 3 } }

    private func numbers(_ value: JSONValue?) -> [Int]? { value?.arrayValue?.compactMap(\.intValue) }

    @Test("Ids as an array, as an object, and with BOS and EOS")
    func forms() throws {
        #expect(try numbers(json(tokenize(["abc"]))) == ids(Array("abc".utf8)))
        let object = try json(tokenize(["abc", "--json"]))
        #expect(keys(object) == ["ids"])
        #expect(numbers(object["ids"]) == ids(Array("abc".utf8)))
        #expect(try numbers(json(tokenize(["abc", "--special"]))) == [1] + ids(Array("abc".utf8)) + [2])
        #expect(try numbers(json(tokenize([""]))) == [])
        let joined = try #require(TinyBase.tokens.firstIndex(of: "the"))
        #expect(try numbers(json(tokenize(["the"]))) == [joined])
    }

    @Test("Standard input is taken byte for byte")
    func standardInput() throws {
        for input: [UInt8] in [[], Array("a\n".utf8), [0, 0x61, 0], Array("é\r\n".utf8), [0xFF, 0x61, 0xC3]] {
            #expect(try numbers(json(tokenize(["-"], input: input))) == ids(input), "\(input)")
        }
    }

    @Test("A GGUF file without tensors will do")
    func withoutTensors() throws {
        try withDirectory { directory in
            var base = TinyBase(seed: 1)
            base.hasTensors = false
            let path = directory.appending(path: "vocabulary.gguf").path
            try base.write(to: path)
            #expect(try numbers(json(lora(["tokenize", "--base", path, "abc"]))) == ids(Array("abc".utf8)))
        }
    }

    @Test("Conversations: an array, an object with variables, and another template")
    func conversations() throws {
        try withDirectory { directory in
            let (array, object) = (directory.appending(path: "a.json"), directory.appending(path: "o.json"))
            let template = directory.appending(path: "t.jinja")
            let messages = "[{\"role\": \"user\", \"content\": \"Zoë\"}]"
            try array.write(messages)
            let chat = "<|im_start|>user\nZoë<|im_end|>\n"
            let arguments = ["--messages", array.path]
            #expect(try tokenize(arguments + ["--text-only"]).text == chat + "<|im_start|>assistant\n")
            let text = try json(tokenize(arguments + ["--text-only", "--json"]))
            #expect(text == .object(["text": .string(chat + "<|im_start|>assistant\n")]))
            let ids = try numbers(json(tokenize(arguments)))
            #expect(
                ids == [1] + self.ids(Array("user\nZoë".utf8)) + [2] + self.ids([0x0A]) + [1]
                    + self.ids(Array("assistant\n".utf8)))

            try object.write("{\"messages\": \(messages), \"add_generation_prompt\": false}")
            #expect(try tokenize(["--messages", object.path, "--text-only"]).text == chat)
            try template.write("{{ bos_token }}|{{ mood }}|{{ messages[0].content }}|{{ tools | length }}")
            try object.write("{\"messages\": \(messages), \"mood\": \"good\", \"tools\": [{}, {}]}")
            #expect(
                try tokenize(["--messages", object.path, "--template", template.path, "--text-only"]).text
                    == "<|im_start|>|good|Zoë|2")
        }
    }

    @Test("A bad template names the line, a bad conversation the file")
    func refusals() throws {
        try withDirectory { directory in
            let (file, template) = (directory.appending(path: "m.json"), directory.appending(path: "t.jinja"))
            let start = ["tokenize", "--base", try Fixtures.tinyBase(), "--messages", file.path]
            try file.write("[{\"role\": \"user\", \"content\": \"x\"}]")
            try template.write("first\n{% for m in messages %}\n{% endif %}")
            try refusal(start + ["--template", template.path], naming: ["t.jinja", "line 3"])
            try template.write("first\n{{ messages | frobnicate }}")
            try refusal(start + ["--template", template.path], naming: ["line 2", "frobnicate"])
            try template.write("\n\n{{ raise_exception('two\nlines \u{1B}[31m') }}")
            let output = try refusal(start + ["--template", template.path], naming: ["line 3", "two lines"])
            #expect(!output.errors.contains("\u{1B}"))
            try refusal(start + ["--template", directory.path + "/none"], naming: [directory.path + "/none"])
            for (content, part) in [
                ("{\"messages\": 3}", "array of messages"), ("nonsense", "m.json"), ("", "m.json"),
                ("{\"messages\": [], \"add_generation_prompt\": 1}", "add_generation_prompt"),
            ] {
                try file.write(content)
                try refusal(start, naming: ["m.json", part])
            }
            try FileManager.default.removeItem(at: file)
            try refusal(start, naming: [file.path])
        }
    }

    @Test("A base without a template says how to give one")
    func withoutTemplate() throws {
        try withDirectory { directory in
            var base = TinyBase(seed: 1)
            base.template = nil
            let (path, file) = (directory.appending(path: "base.bin").path, directory.appending(path: "m.json"))
            try base.write(to: path)
            try file.write("[]")
            try refusal(["tokenize", "--base", path, "--messages", file.path], naming: [path, "--template"])
            try refusal(["generate", "--base", path, "--prompt", "a", "--system", "b"], naming: [path, "--system"])
        }
    }
}
