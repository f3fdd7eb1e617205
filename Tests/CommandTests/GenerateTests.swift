import Foundation
import LoRAFormats
import TestSupport
import Testing

@Suite("lora generate")
struct GenerateTests {
    private func arguments(_ more: [String], prompt: String = "3 x dog?") throws -> [String] {
        ["generate", "--base", try Fixtures.tinyBase(), "--prompt", prompt, "--quiet"] + more
    }

    private func text(_ more: [String], prompt: String = "3 x dog?") throws -> [UInt8] {
        try lora(arguments(more, prompt: prompt)).bytes
    }

    @Test("--json is one object, the text the same as without it")
    func object() throws {
        let object = try json(lora(arguments(["--max-tokens", "7", "--json"])))
        #expect(
            keys(object) == [
                "text", "finish_reason", "prompt_tokens", "completion_tokens", "seconds_to_first_token",
                "tokens_per_second",
            ])
        #expect(object["completion_tokens"]?.intValue == 7)
        #expect(object["finish_reason"]?.stringValue == "length")
        let plain = try text(["--max-tokens", "7"])
        #expect(String(decoding: plain, as: UTF8.self) == (object["text"]?.stringValue ?? "") + "\n")
    }

    @Test("Without --quiet standard error tells the rate")
    func rate() throws {
        let output = try lora([
            "generate", "--base", Fixtures.tinyBase(), "--prompt", "a", "--raw", "--max-tokens", "4",
        ])
        #expect(output.errors.contains("1 tokens in, 4 out"), "\(output.errors)")
    }

    @Test("A prompt from standard input is the prompt as an argument")
    func standardInput() throws {
        let piped = try lora(arguments([], prompt: "-"), input: Array("the owl".utf8)).bytes
        #expect(try piped == text([], prompt: "the owl"))
    }

    @Test("--raw and --system change what the model reads")
    func template() throws {
        let count = { (more: [String]) in
            try json(lora(arguments(more + ["--json", "--max-tokens", "1"], prompt: "ab")))["prompt_tokens"]?.intValue
        }
        #expect(try count(["--raw"]) == 2)
        let chat = try #require(try count([]))
        #expect(chat == 2 + "user\n".count + "\nassistant\n".count + 3)
        #expect(try count(["--system", "s"]) == chat + "system\ns\n".count + 2)
    }

    @Test("A seed repeats what is sampled; another seed samples something else")
    func seeds() throws {
        let sampled = { (seed: String) in try text(["--temperature", "2", "--max-tokens", "24", "--seed", seed]) }
        #expect(try sampled("1") == sampled("1"))
        #expect(try sampled("1") != sampled("2"))
        #expect(try text(["--temperature", "2", "--top-k", "1"]) == text([]))
    }

    @Test("Half of an adapter twice is the adapter; none of it is the base")
    func weights() throws {
        let adapter = try Fixtures.trainedAdapter()
        let whole = try text(["--adapter", adapter, "--max-tokens", "12", "--compute", "f32"])
        let base = try text(["--max-tokens", "12", "--compute", "f32"])
        #expect(whole != base)
        #expect(try text(["--adapter", adapter + ":1", "--max-tokens", "12", "--compute", "f32"]) == whole)
        #expect(
            try text(
                [
                    "--adapter", adapter + ":0.5", "--adapter", adapter + ":0.5", "--max-tokens", "12", "--compute",
                    "f32",
                ]
            ) == whole)
        #expect(try text(["--adapter", adapter + ":0", "--max-tokens", "12", "--compute", "f32"]) == base)
    }

    @Test("B = 0 is the base")
    func zero() throws {
        try withDirectory { directory in
            let path = directory.appending(path: "zero.lora").path
            try Fixtures.write(Fixtures.trainedParts(), to: path) { name, values in
                if name.contains("lora_B") { values = values.map { _ in 0 } }
            }
            #expect(try text(["--adapter", path]) == text([]))
        }
    }

    @Test("An empty prompt is refused where nothing is put around it")
    func emptyPrompt() throws {
        try refusal(
            ["generate", "--base", Fixtures.tinyBase(), "--raw", "--prompt", ""], naming: ["prompt is empty"])
        try refusal(
            ["generate", "--base", Fixtures.tinyBase(), "--raw", "--prompt", "-"], input: [],
            naming: ["prompt is empty"])
        #expect(try !text([], prompt: "").isEmpty)
    }

    @Test("A prompt longer than the context is refused; one that fits goes to its end")
    func longPrompt() throws {
        let limit = TinyBase.contextLength
        try refusal(
            [
                "generate", "--base", Fixtures.tinyBase(), "--raw", "--prompt", String(repeating: "a", count: limit),
            ], naming: ["\(limit) tokens", "context is \(limit)", "shorten"])
        let output = try lora(
            arguments(["--raw", "--json"], prompt: String(repeating: "a", count: limit - 2)))
        let object = try json(output)
        #expect(try #require(object["completion_tokens"]?.intValue) <= 2)
        if object["completion_tokens"]?.intValue == 2 { #expect(object["finish_reason"]?.stringValue == "length") }
    }

    @Test("A prompt or a template that is not UTF-8 is refused")
    func notUnicode() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "t.jinja")
            try file.write([0x61, 0xFF])
            try refusal(
                ["tokenize", "--base", Fixtures.tinyBase(), "--messages", "m.json", "--template", file.path],
                naming: [file.path, "not UTF-8"])
        }
        try refusal(
            ["generate", "--base", Fixtures.tinyBase(), "--prompt", "-"], input: [0x61, 0xFF],
            naming: ["standard input", "not UTF-8"])
        try refusal(
            ["generate", "--base", Fixtures.tinyBase(), "--prompt", "-"], script: "exec \"$0\" \"$@\" <&-",
            naming: ["standard input", "Bad file descriptor"])
        try refusal(
            ["tokenize", "--base", Fixtures.tinyBase(), "-"], script: "exec \"$0\" \"$@\" </",
            naming: ["standard input", "Is a directory"])
    }

    @Test("A reader that goes away ends the program quietly")
    func closedPipe() throws {
        let base = try Fixtures.tinyBase()
        for (arguments, input) in [
            (["generate", "--base", base, "--prompt", "-", "--raw", "--quiet"], "a"),
            (["tokenize", "--base", base, "-"], String(repeating: "a b ", count: 40_000)),
        ] {
            // The pause lets the reader go away first.
            let script = "{ sleep 0.3; \"$0\" \"$@\"; echo \"status $?\" >&2; } | :"
            let output = try lora(arguments, input: Array(input.utf8), script: script)
            #expect(output.errors == "status 141\n", "\(output.errors)")
        }
    }

    @Test("Results that cannot be written are an error")
    func fullOutput() throws {
        try refusal(
            ["generate", "--base", Fixtures.tinyBase(), "--prompt", "a", "--json"],
            script: "exec \"$0\" \"$@\" >/dev/full",
            naming: ["standard output", "No space left on device"])
    }
}
