import Foundation
import LoRAConversion
import LoRAFormats
import LoRAModel
import OrderedCollections
import Testing

/// Adapters that do not fit are refused in one line with all that is wrong, and nothing is written.
@Suite("Adapters that are refused", .serialized)
struct AdapterRefusalTests {
    private static let stem = "base_model.model.model.layers"

    @Test("Missing, surplus and misshapen tensors of a PEFT directory")
    func tensors() throws {
        try check(naming: [
            "missing \(Self.stem).0.self_attn.q_proj.lora_A.weight",
            "\(Self.stem).1.self_attn.v_proj.lora_B.weight has shape [64, 2], expected [32, 4]",
            "missing \(Self.stem).1.self_attn.k_proj.lora_B.weight",
            "unexpected \(Self.stem).2.self_attn.k_proj.lora_B.weight",
        ]) { folder, output in
            let source = try copy("plain", to: folder) { tensor in
                switch tensor.name {
                case "\(Self.stem).0.self_attn.q_proj.lora_A.weight": nil
                case "\(Self.stem).1.self_attn.v_proj.lora_B.weight":
                    try NamedTensor(name: tensor.name, type: tensor.type, shape: [64, 2], bytes: tensor.bytes)
                case "\(Self.stem).1.self_attn.k_proj.lora_B.weight":
                    try NamedTensor(
                        name: "\(Self.stem).2.self_attn.k_proj.lora_B.weight", type: tensor.type, shape: tensor.shape,
                        bytes: tensor.bytes)
                default: tensor
                }
            }
            try AdapterConversion.importAdapter(from: source, base: try Family.imported("llama"), to: output)
        }
    }

    @Test("Keys that would change the arithmetic")
    func keys() throws {
        try check(naming: [
            "modules_to_save", "bias is \"all\"", "fan_in_fan_out", "lora_bias", "target_parameters", "use_qalora",
            "adapter_config.json",
        ]) { folder, output in
            let source = try copy(
                "plain", to: folder,
                configuration: [
                    "modules_to_save": .array([.string("lm_head")]), "bias": .string("all"),
                    "fan_in_fan_out": .bool(true), "lora_bias": .bool(true), "use_qalora": .bool(true),
                    "target_parameters": .array([.string("model.layers.0.mlp.experts")]),
                ])
            try AdapterConversion.importAdapter(from: source, base: try Family.imported("llama"), to: output)
        }
    }

    @Test("The output head and the embedding as targets")
    func head() throws {
        try check(naming: ["output head", "base_model.model.lm_head.lora_A.weight", "lora_embedding_A"]) {
            folder, output in
            let names = ["q_proj", "k_proj", "v_proj", "o_proj", "lm_head", "embed_tokens"]
            let source = try copy(
                "plain", to: folder, configuration: ["target_modules": .array(names.map { .string($0) })],
                adding: [
                    NamedTensor(
                        name: "base_model.model.lm_head.lora_A.weight", type: .f32, shape: [4, 32],
                        elements: [Float](repeating: 1, count: 128)),
                    NamedTensor(
                        name: "base_model.model.model.embed_tokens.lora_embedding_A", type: .f32, shape: [4, 264],
                        elements: [Float](repeating: 1, count: 1056)),
                ])
            try AdapterConversion.importAdapter(from: source, base: try Family.imported("llama"), to: output)
        }
    }

    @Test("Nothing but a pickle")
    func pickle() throws {
        try check(naming: ["adapter_model.bin", "adapter_model.safetensors"]) { folder, output in
            let source = try copy("plain", to: folder)
            try FileManager.default.moveItem(
                atPath: source + "/adapter_model.safetensors", toPath: source + "/adapter_model.bin")
            try AdapterConversion.importAdapter(from: source, base: try Family.imported("llama"), to: output)
        }
    }

    @Test("Several adapters in one directory")
    func several() throws {
        try check(naming: ["several adapters ('first', 'second')"]) { folder, output in
            let source = try copy("plain", to: folder) { tensor in
                let adapter = tensor.name.contains("layers.0") ? "first" : "second"
                return try NamedTensor(
                    name: tensor.name.replacingOccurrences(of: ".weight", with: ".\(adapter).weight"),
                    type: tensor.type, shape: tensor.shape, bytes: tensor.bytes)
            }
            try AdapterConversion.importAdapter(from: source, base: try Family.imported("llama"), to: output)
        }
    }

    @Test("Another base, by its fingerprint", arguments: [AdapterFormat.peft, .gguf])
    func otherBase(format: AdapterFormat) throws {
        // The same shapes, other bytes.
        let other = try Family.imported("llama", type: .f16)
        try check(naming: ["another base", BaseFingerprint.fingerprint(of: other.file), "--allow-other-base"]) {
            folder, output in
            let (lora, exported) = (folder.path + "/a.lora", folder.path + "/exported")
            let (_, base) = try AdapterGolden.load("plain")
            try AdapterConversion.importAdapter(from: AdapterGolden.directory("plain").path, base: base, to: lora)
            try AdapterConversion.exportAdapter(lora, base: base, format: format, to: exported)
            try AdapterConversion.importAdapter(
                from: exported, base: other, to: folder.path + "/allowed.lora", allowsOtherBase: true)
            try AdapterConversion.importAdapter(from: exported, base: other, to: output)
        }
    }

    @Test("A base of another family", arguments: [AdapterFormat.peft, .gguf, .mlx])
    func otherShapes(format: AdapterFormat) throws {
        try check(
            naming: ["does not fit the base", "layers.0.self_attn.q_proj", "layers.1.self_attn.v_proj"].map {
                format == .gguf
                    ? $0.replacingOccurrences(of: "layers.", with: "blk.").replacingOccurrences(
                        of: "self_attn.q_proj", with: "attn_q"
                    ).replacingOccurrences(of: "self_attn.v_proj", with: "attn_v") : $0
            }
        ) { folder, output in
            let (_, base) = try AdapterGolden.load("qwen")
            let (source, exported) = (AdapterGolden.directory("qwen").path, folder.path + "/exported")
            try AdapterConversion.exportAdapter(source, base: base, format: format, to: exported)
            try AdapterConversion.importAdapter(from: exported, base: try Family.imported("qwen2"), to: output)
        }
    }

    @Test("Keys and tensors of a GGUF file")
    func gguf() throws {
        try check(naming: [
            "general.type is 'model'", "adapter.type is missing", "general.architecture is 'gpt2'",
            "adapter.lora.alpha must be a number", "missing blk.0.attn_q.weight.lora_b",
            "'blk.7.attn_k.weight.lora_a' belongs to block 7, the base has 2", "unexpected 'output.weight.lora_a'",
            "'blk.1.ffn_down.weight.lora_b' gives 8 values, the base's projection 32",
        ]) { folder, output in
            var writer = GGUFWriter()
            try writer.add("general.architecture", .string("gpt2"))
            try writer.add("general.type", .string("model"))
            for (name, shape) in [
                ("blk.0.attn_q.weight.lora_a", [4, 32]), ("blk.7.attn_k.weight.lora_a", [4, 32]),
                ("output.weight.lora_a", [4, 32]), ("blk.1.ffn_down.weight.lora_a", [4, 64]),
                ("blk.1.ffn_down.weight.lora_b", [8, 4]),
            ] {
                try writer.addTensor(
                    name, type: .f32, shape: shape, bytes: [UInt8](repeating: 0, count: shape[0] * shape[1] * 4))
            }
            try writer.write(to: folder.path + "/adapter.gguf")
            try AdapterConversion.importAdapter(
                from: folder.path + "/adapter.gguf", base: try Family.imported("llama"), to: output)
        }
    }

    @Test("Tensors of an MLX directory")
    func mlx() throws {
        try check(naming: [
            "missing model.layers.0.self_attn.q_proj.lora_a", "unexpected 'model.layers.5.self_attn.q_proj.lora_a'",
            "missing model.layers.1.mlp.down_proj.lora_b",
        ]) { folder, output in
            let source = folder.path + "/mlx"
            let (_, base) = try AdapterGolden.load("all-linear")
            try AdapterConversion.exportAdapter(
                AdapterGolden.directory("all-linear").path, base: base, format: .mlx, to: source)
            try change(source + "/adapters.safetensors") { tensor in
                switch tensor.name {
                case "model.layers.0.self_attn.q_proj.lora_a":
                    try NamedTensor(
                        name: "model.layers.5.self_attn.q_proj.lora_a", type: tensor.type, shape: tensor.shape,
                        bytes: tensor.bytes)
                case "model.layers.1.mlp.down_proj.lora_b": nil
                default: tensor
                }
            }
            try AdapterConversion.importAdapter(from: source, base: base, to: output)
        }
    }

    @Test("Settings of an MLX directory")
    func mlxSettings() throws {
        try check(naming: ["adapter_config.json", "fine_tune_type is \"dora\"", "rank", "scale", "num_layers"]) {
            folder, output in
            let source = folder.path + "/mlx"
            let (_, base) = try AdapterGolden.load("plain")
            try AdapterConversion.exportAdapter(
                AdapterGolden.directory("plain").path, base: base, format: .mlx, to: source)
            let text =
                #"{"fine_tune_type": "dora", "lora_parameters": {"rank": 0, "scale": "much"}, "num_layers": 1.5}"#
            try Data(text.utf8).write(to: URL(filePath: source + "/adapter_config.json"))
            try AdapterConversion.importAdapter(from: source, base: base, to: output)
        }
    }

    @Test("DoRA has no place in GGUF and MLX", arguments: [AdapterFormat.gguf, .mlx])
    func magnitudes(format: AdapterFormat) throws {
        try check(naming: ["use_dora", "dora"]) { _, output in
            let (_, base) = try AdapterGolden.load("dora")
            try AdapterConversion.exportAdapter(
                AdapterGolden.directory("dora").path, base: base, format: format, to: output)
        }
    }

    @Test("A directory with other files is not replaced", arguments: [AdapterFormat.peft, .mlx])
    func occupied(format: AdapterFormat) throws {
        try Family.withFolder { folder in
            let (_, base) = try AdapterGolden.load("plain")
            let notes = folder.appending(path: "notes.txt")
            try Data("mine".utf8).write(to: notes)
            #expect(throws: FormatError.self) {
                try AdapterConversion.exportAdapter(
                    AdapterGolden.directory("plain").path, base: base, format: format, to: folder.path)
            }
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["notes.txt"])
        }
    }

    /// Expects that `body` throws one line with all of `parts` when it writes to the path it gets, and leaves nothing
    /// there nor beside it.
    private func check(
        naming parts: [String], sourceLocation: SourceLocation = #_sourceLocation,
        _ body: (_ folder: URL, _ output: String) throws -> Void
    ) throws {
        try Family.withFolder { folder in
            let place = folder.appending(path: "output")
            try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
            let error = #expect(throws: FormatError.self, sourceLocation: sourceLocation) {
                try body(folder, place.path + "/result")
            }
            let text = error?.description ?? ""
            for part in parts {
                #expect(text.contains(part), "expected “\(part)” in: \(text)", sourceLocation: sourceLocation)
            }
            #expect(!text.contains("\n"), sourceLocation: sourceLocation)
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: place.path).isEmpty, sourceLocation: sourceLocation)
        }
    }

    /// A golden's directory with changes: its path.
    private func copy(
        _ name: String, to folder: URL, configuration changes: [String: JSONValue] = [:], adding: [NamedTensor] = [],
        tensors: (NamedTensor) throws -> NamedTensor? = { $0 }
    ) throws -> String {
        let directory = folder.appending(path: name)
        try FileManager.default.copyItem(at: AdapterGolden.directory(name), to: directory)
        var members = try #require(AdapterGolden.configuration(directory.path).objectValue)
        for (key, value) in changes { members[key] = value }
        try Data(JSONValue.object(members).serialized().utf8).write(
            to: directory.appending(path: "adapter_config.json"))
        try change(directory.path + "/adapter_model.safetensors", adding: adding, tensors)
        return directory.path
    }

    private func change(
        _ path: String, adding: [NamedTensor] = [], _ body: (NamedTensor) throws -> NamedTensor?
    ) throws {
        let file = try SafetensorsFile(path: path)
        let tensors = try file.tensors.compactMap { tensor in
            try body(
                NamedTensor(
                    name: tensor.name, type: tensor.type, shape: tensor.shape,
                    bytes: file.withBytes(of: tensor) { Array($0) }))
        }
        try Data(SafetensorsWriter.serialize(tensors + adding)).write(to: URL(filePath: path))
    }
}
