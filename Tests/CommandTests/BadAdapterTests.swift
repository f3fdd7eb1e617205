import Foundation
import LoRAFormats
import Testing

@Suite("Bad adapters")
struct BadAdapterTests {
    /// What every command that reads an adapter says of `path`.
    private func refuse(_ path: String, base: String? = nil, naming parts: [String]) throws {
        let (base, data) = (try base ?? Fixtures.tinyBase(), try Fixtures.animals())
        try refusal(["generate", "--base", base, "--adapter", path, "--prompt", "a"], naming: [path] + parts)
        try refusal(["eval", "--base", base, "--adapter", path, "--data", data], naming: [path] + parts)
        try withDirectory { directory in
            try refusal(
                [
                    "train", "--base", base, "--init-adapter", path, "--data", data, "--output",
                    directory.path + "/x.lora",
                ], naming: [path] + parts)
            #expect(try names(in: directory).isEmpty)
        }
    }

    @Test("An adapter for another base is refused with both fingerprints, and taken when told so")
    func otherBase() throws {
        let (adapter, other) = (try Fixtures.trainedAdapter(), try Fixtures.otherBase())
        let fingerprints = try [Fixtures.tinyBase(), other].map {
            try #require(json(lora(["inspect", $0, "--json"]))["fingerprint"]?.stringValue)
        }
        try refuse(adapter, base: other, naming: fingerprints + ["another base", "--allow-other-base"])
        try lora([
            "generate", "--base", other, "--adapter", adapter, "--prompt", "a", "--max-tokens", "1",
            "--allow-other-base",
        ])
        try refusal(
            [
                "generate", "--base", Fixtures.realBase, "--adapter", adapter, "--prompt", "a", "--allow-other-base",
            ], naming: [adapter, "does not fit"])
    }

    @Test("Missing, a directory, empty, a text, a GGUF file")
    func kinds() throws {
        try withDirectory { directory in
            let path = directory.appending(path: "x.lora").path
            try refuse(path, naming: ["No such file"])
            try refuse(directory.path, naming: ["adapter_config.json"])
            for content in ["", "PK", "an adapter it is not", String(repeating: "PK\u{5}\u{6}", count: 20)] {
                try URL(filePath: path).write(content)
                try refuse(path, naming: [])
            }
            try refuse(Fixtures.tinyBase(), naming: ["ZIP"])
        }
    }

    @Test("Truncated and damaged files never end in a trace and are never taken")
    func damaged() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "x.lora")
            let whole = try URL(filePath: Fixtures.trainedAdapter()).bytes()
            for length in [1, 4, 30, 100, whole.count / 2, whole.count - 22, whole.count - 1] {
                try file.write(Array(whole.prefix(length)))
                try refusal(
                    ["generate", "--base", Fixtures.tinyBase(), "--adapter", file.path, "--prompt", "a"],
                    naming: [file.path])
            }
            for place in [60, 700, whole.count / 3, whole.count / 2, whole.count - 200, whole.count - 20] {
                var bytes = whole
                bytes[place] ^= 0x10
                try file.write(bytes)
                let output = try Program.run([
                    "generate", "--base", Fixtures.tinyBase(), "--adapter", file.path, "--prompt", "a",
                    "--max-tokens", "1", "--quiet",
                ])
                // Attributes in the directory may differ and mean nothing; content may not.
                #expect(output.status == 1 || place >= whole.count - 200, "byte \(place)")
                #expect(output.status == 0 || output.errorLines.count == 1, "\(output.errors)")
                #expect(output.status == 0 || output.errors.hasPrefix("Error: \(file.path): "), "\(output.errors)")
            }
        }
    }

    @Test("An archive without the entries, or with other tensors than its record says")
    func archives() throws {
        try withDirectory { directory in
            let path = directory.appending(path: "x.lora").path
            try ZipWriter.write([("readme.txt", Array("hello".utf8))], to: path)
            try refuse(path, naming: ["adapter_config.json", "readme.txt"])

            let archive = try ZipArchive(path: Fixtures.trainedAdapter())
            var entries = try archive.entries.map { ($0.name, try archive.read($0, limit: 1 << 24).array) }
            let tensors = try #require(entries.firstIndex { $0.0 == "adapter_model.safetensors" })
            entries[tensors].1[entries[tensors].1.count - 3] ^= 1
            try ZipWriter.write(entries.map { (name: $0.0, bytes: $0.1) }, to: path)
            try refuse(path, naming: ["adapter_model.safetensors", "SHA-256"])
            entries.remove(at: tensors)
            try ZipWriter.write(entries.map { (name: $0.0, bytes: $0.1) }, to: path)
            try refuse(path, naming: ["adapter_model.safetensors"])
        }
    }

    @Test("Values that are no numbers, tensors that do not fit", arguments: [Float.nan, .infinity])
    func values(_ value: Float) throws {
        try withDirectory { directory in
            let path = directory.appending(path: "x.lora").path
            try Fixtures.write(Fixtures.trainedParts(), to: path) { name, values in
                if name.contains("layers.1.self_attn.v_proj.lora_B") { values[5] = value }
            }
            try refuse(path, naming: ["layers.1.self_attn.v_proj.lora_B", "not finite"])
        }
    }

    @Test("A missing and a misshapen tensor are both named")
    func shapes() throws {
        try withDirectory { directory in
            let path = directory.appending(path: "x.lora").path
            let file = try Fixtures.trainedParts()
            var tensors = try file.tensors.tensors.map {
                try NamedTensor(name: $0.name, type: .f32, shape: $0.shape, elements: file.tensors.floats(of: $0))
            }
            let gone = tensors.removeFirst()
            let first = tensors.removeFirst()
            tensors.append(
                try NamedTensor(
                    name: first.name, type: .f32, shape: [1, 3], elements: [Float](repeating: 0, count: 3)))
            try AdapterFile(configuration: file.configuration, record: file.record, tensors: tensors).write(path: path)
            try refuse(path, naming: ["missing \(gone.name)", "\(first.name) has shape [1, 3]"])
        }
    }
}
