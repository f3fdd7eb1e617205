import Foundation
import LoRAFormats
import TestSupport
import Testing

@Suite("Bad bases")
struct BadBaseTests {
    /// What every command that reads a base says of `path`.
    private func refuse(_ path: String, naming parts: [String], tokenizerToo: Bool = true) throws {
        let data = try Fixtures.animals()
        try refusal(["generate", "--base", path, "--prompt", "a"], naming: [path] + parts)
        try refusal(["eval", "--base", path, "--data", data], naming: [path] + parts)
        try refusal(["train", "--base", path, "--data", data, "--output", "/tmp/x.lora"], naming: [path] + parts)
        if tokenizerToo { try refusal(["tokenize", "--base", path, "a"], naming: [path] + parts) }
    }

    @Test("Missing, a directory, empty, a text, another kind of file")
    func kinds() throws {
        try withDirectory { directory in
            let path = directory.appending(path: "base.bin").path
            try refuse(path, naming: ["No such file"])
            try refuse(directory.path, naming: ["directory"])
            for content in ["", "G", "once upon a time there was a base\n", String(repeating: "x", count: 10_000)] {
                try URL(filePath: path).write(content)
                try refuse(path, naming: [])
            }
            try URL(filePath: path).write(try URL(filePath: Fixtures.trainedAdapter()).bytes())
            try refuse(path, naming: ["GGUF"])
        }
    }

    @Test("Truncated at any length", arguments: [4, 5, 23, 24, 25, 100, 1000, 4000, 9000, 20_000, 100_000, -33, -1])
    func truncated(_ length: Int) throws {
        try withDirectory { directory in
            let file = directory.appending(path: "base.bin")
            let whole = try URL(filePath: Fixtures.tinyBase()).bytes()
            // The file ends with less than 32 bytes of padding, or with the last tensor.
            try file.write(Array(whole.prefix(length < 0 ? whole.count + length : length)))
            let output = try Program.run(["generate", "--base", file.path, "--prompt", "a", "--max-tokens", "1"])
            if length == -1, output.status == 0 { return }
            #expect(output.status == 1)
            #expect(
                output.errorLines.count == 1 && output.errors.hasPrefix("Error: \(file.path): "), "\(output.errors)")
        }
    }

    @Test("Damaged bytes in the header never end in a trace")
    func corrupted() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "base.bin")
            let whole = try URL(filePath: Fixtures.tinyBase()).bytes()
            for (index, place) in stride(from: 4, to: 700, by: 23).enumerated() {
                var bytes = whole
                bytes[place] ^= [0x80, 0xFF, 0x01][index % 3]
                try file.write(bytes)
                let output = try Program.run([
                    "generate", "--base", file.path, "--prompt", "a", "--max-tokens", "1", "--quiet",
                ])
                #expect([0, 1].contains(output.status), "byte \(place): \(output.status) \(output.errors)")
                if output.status == 1 {
                    #expect(
                        output.errorLines.count == 1 && output.errors.hasPrefix("Error: "),
                        "byte \(place): \(output.errors)")
                }
            }
        }
    }

    @Test("A tokenizer larger than the embedding is refused, a smaller one is padding")
    func vocabulary() throws {
        try withDirectory { directory in
            let path = directory.appending(path: "base.bin").path
            var base = TinyBase(seed: 1)
            base.embeddingRows = 200
            try base.write(to: path)
            try refuse(path, naming: ["\(TinyBase.tokens.count) tokens", "200 rows"], tokenizerToo: false)
            base.embeddingRows = 512
            try base.write(to: path)
            try lora(["generate", "--base", path, "--prompt", "a", "--max-tokens", "20", "--temperature", "3"])
        }
    }

    @Test("A base without tensors is no model")
    func withoutTensors() throws {
        try withDirectory { directory in
            let path = directory.appending(path: "base.bin").path
            var base = TinyBase(seed: 1)
            base.hasTensors = false
            try base.write(to: path)
            try refuse(path, naming: ["token_embd.weight"], tokenizerToo: false)
        }
    }

    @Test("Every tensor that is missing or misshapen is named, whichever it is")
    func tensors() throws {
        try withDirectory { directory in
            let path = directory.appending(path: "base.bin").path
            for name in ["blk.0.attn_k", "blk.1.ffn_up", "blk.1.attn_norm", "output_norm"] {
                var base = TinyBase(seed: 1)
                base.missingTensor = name
                try base.write(to: path)
                try refusal(
                    ["generate", "--base", path, "--prompt", "a"], naming: ["tensor \(name).weight is missing"])
            }
        }
    }

    @Test("A template that cannot be read names its line")
    func template() throws {
        try withDirectory { directory in
            let path = directory.appending(path: "base.bin").path
            var base = TinyBase(seed: 1)
            base.template = "\n{% for m in %}"
            try base.write(to: path)
            try refusal(["generate", "--base", path, "--prompt", "a"], naming: ["chat template, line 2"])
        }
    }
}
