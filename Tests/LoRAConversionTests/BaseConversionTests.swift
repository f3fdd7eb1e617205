import Foundation
import LoRAFormats
import LoRAText
import Testing

@testable import LoRAConversion
@testable import LoRAModel

@Suite("Importing and exporting bases")
struct BaseConversionTests {
    @Test("Out to Hugging Face and in again gives the same base", arguments: FamilyGoldenTests.names)
    func roundTrip(name: String) throws {
        try Family.withFolder { folder in
            let (first, second) = (folder.path + "/first.bin", folder.path + "/second.bin")
            let directory = folder.path + "/hf"
            try BaseConversion.importBase(from: Family.directory(name).path, to: first, type: nil)
            let base = try BaseModel(path: first)
            try BaseConversion.exportCheckpoint(base, to: directory, type: nil, shardBytes: 30_000)
            #expect(FileManager.default.fileExists(atPath: directory + "/model.safetensors.index.json"))
            try BaseConversion.importBase(from: directory, to: second, type: nil)
            let again = try BaseModel(path: second)
            #expect(again.configuration == base.configuration)
            #expect(again.file.tensors.map(\.name) == base.file.tensors.map(\.name))
            for (one, other) in zip(base.file.tensors, again.file.tensors) {
                #expect(one.type == other.type && one.shape == other.shape, "\(one.name)")
                #expect(base.file.bytes(of: one).elementsEqual(again.file.bytes(of: other)), "\(one.name)")
            }
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() == [
                    "first.bin", "hf", "second.bin",
                ])
        }
    }

    @Test("Matrices in every type; vectors stay F32", arguments: [GGUFTensorType.f32, .f16, .bf16, .q8_0])
    func types(type: GGUFTensorType) throws {
        let base = try Family.imported("qwen3", type: type)
        for tensor in base.file.tensors {
            #expect(tensor.type == (tensor.shape.count == 1 ? .f32 : type), "\(tensor.name)")
        }
    }

    @Test("A GGUF file in another type equals a directory in that type")
    func file() throws {
        try Family.withFolder { folder in
            let (kept, output) = (folder.path + "/kept.bin", folder.path + "/q8.bin")
            try BaseConversion.importBase(from: Family.directory("llama").path, to: kept, type: nil)
            try BaseConversion.importBase(from: kept, to: output, type: .q8_0)
            let (converted, direct) = (try GGUFFile(path: output), try Family.imported("llama", type: .q8_0))
            #expect(converted.metadata["general.file_type"] == .uint32(7))
            for tensor in direct.file.tensors {
                let other = try #require(converted.tensor(named: tensor.name))
                #expect(direct.file.bytes(of: tensor).elementsEqual(converted.bytes(of: other)), "\(tensor.name)")
            }
        }
    }

    @Test("A window ends the context")
    func window() throws {
        #expect(try Family.imported("mistral").configuration.contextLength == 128)
        #expect(try Family.imported("qwen2").configuration.contextLength == 256)
    }

    /// Changes config.json's text, or another file's, and expects a refusal that names all of `parts` and writes nothing.
    private func refuse(
        _ family: String, in file: String = "config.json", _ edit: (String) -> String, naming parts: [String],
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        try Family.withFolder { folder in
            let source = folder.appending(path: "source")
            try FileManager.default.copyItem(at: Family.directory(family), to: source)
            let url = source.appending(path: file)
            let text = try String(contentsOf: url, encoding: .utf8)
            let edited = edit(text)
            #expect(edited != text, sourceLocation: sourceLocation)
            try Data(edited.utf8).write(to: url)
            let output = folder.path + "/base.bin"
            let error = #expect(throws: FormatError.self, sourceLocation: sourceLocation) {
                try BaseConversion.importBase(from: source.path, to: output, type: nil)
            }
            let message = error?.description ?? ""
            for part in parts { #expect(message.contains(part), "\(message)", sourceLocation: sourceLocation) }
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["source"],
                sourceLocation: sourceLocation)
        }
    }

    @Test("config.json: one error names everything that is wrong")
    func badConfiguration() throws {
        try refuse("llama", { _ in "" }, naming: ["config.json", "empty"])
        try refuse("llama", { _ in "[1]" }, naming: ["config.json", "an array"])
        try refuse(
            "llama", { $0.replacing("\"llama\"", with: "\"gemma\"") }, naming: ["model_type", "'gemma'", "qwen3"])
        try refuse(
            "llama",
            {
                $0.replacing("\"hidden_size\": 32", with: "\"hidden_size\": -32")
                    .replacing("\"silu\"", with: "\"gelu\"").replacing(
                        "\"mlp_bias\": false", with: "\"mlp_bias\": true"
                    )
                    .replacing("\"llama3\"", with: "\"yarn\"").replacing("\"vocab_size\": 264", with: "\"x\": 1")
            }, naming: ["hidden_size", "hidden_act 'gelu'", "mlp_bias", "'yarn'", "vocab_size is missing"])
        try refuse(
            "qwen3", { $0.replacing("\"attention_bias\": false", with: "\"attention_bias\": true") },
            naming: ["attention_bias"])
        try refuse(
            "qwen3", { $0.replacing("\"head_dim\": 24", with: "\"head_dim\": 7") }, naming: ["head size 7"])
        try refuse(
            "qwen2", { $0.replacing("\"factor\": 4.0", with: "\"factor\": 0") }, naming: ["rope_parameters.factor"])
        try refuse(
            "qwen2", { $0.replacing("\"linear\"", with: "\"llama3\"") }, naming: ["'llama3'", "qwen2"])
        try refuse(
            "mistral",
            {
                $0.replacing(
                    "\"vocab_size\": 264",
                    with: "\"vocab_size\": 264, \"quantization_config\": {\"quant_method\": \"awq\"}")
            },
            naming: ["quantization_config", "awq"])
        for number in ["0", "1e30", "99999999999999999999", "null", "\"2\"", "1.5", "[]"] {
            try refuse(
                "llama", { $0.replacing("\"num_hidden_layers\": 2", with: "\"num_hidden_layers\": \(number)") },
                naming: ["num_hidden_layers"])
        }
        try refuse(
            "llama", { $0.replacing("\"num_hidden_layers\": 2", with: "\"num_hidden_layers\": 200000000") },
            naming: ["block_count"])
    }

    @Test("Missing and surplus tensors: one error names all")
    func badTensors() throws {
        try refuse(
            "qwen3", { $0.replacing("\"num_hidden_layers\": 2", with: "\"num_hidden_layers\": 3") },
            naming: [
                "model.layers.2.self_attn.q_norm.weight is missing", "model.layers.2.mlp.down_proj.weight is missing",
            ])
        try refuse(
            "qwen3", { $0.replacing("\"num_hidden_layers\": 2", with: "\"num_hidden_layers\": 1") },
            naming: ["model.layers.1.self_attn.q_norm.weight", "model.layers.1.mlp.down_proj.weight", "not part of"])
        try refuse(
            "llama", { $0.replacing("\"attention_bias\": true", with: "\"attention_bias\": false") },
            naming: ["model.layers.0.self_attn.q_proj.bias", "model.layers.1.self_attn.o_proj.bias"])
        try refuse(
            "qwen2", { $0.replacing("\"intermediate_size\": 64", with: "\"intermediate_size\": 96") },
            naming: ["gate_proj.weight has shape [64, 32], expected [96, 32]"])
        try refuse(
            "qwen2", { $0.replacing("\"tie_word_embeddings\": true", with: "\"tie_word_embeddings\": false") },
            naming: ["lm_head.weight is missing"])
    }

    @Test("model.safetensors.index.json: what it says must be there, and in the directory")
    func badIndex() throws {
        let index = "model.safetensors.index.json"
        try refuse("llama", in: index, { _ in "{}" }, naming: [index, "weight_map"])
        try refuse(
            "llama", in: index, { $0.replacing("model-00001-of", with: "../model-00001-of") }, naming: ["'../model"])
        try refuse("llama", in: index, { $0.replacing("model-00001-of", with: "model-00009-of") }, naming: ["00009"])
        try refuse(
            "llama", in: index, { $0.replacing("model.norm.weight", with: "model.morn.weight") },
            naming: ["'model.norm.weight'", "'model.morn.weight'"])
        try refuse("llama", in: index, { String($0.prefix(300)) }, naming: [index])
    }

    @Test("A directory that holds something is left alone")
    func occupied() throws {
        try Family.withFolder { folder in
            let base = try Family.imported("qwen2")
            try Data().write(to: folder.appending(path: "mine"))
            #expect(throws: FormatError.self) {
                try BaseConversion.exportCheckpoint(base, to: folder.path, type: nil, shardBytes: 1 << 30)
            }
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["mine"])
        }
    }

    @Test("Llama 3's frequencies come back from their divisors")
    func llama3() throws {
        for (factor, base, size) in [(8.0, 500_000.0, 128), (32, 500_000, 64), (8, 10_000, 16)] {
            let scaling = Llama3Scaling(factor: factor, originalContext: 8192)
            let divisors = scaling.divisors(base: base, headSize: size)
            let found = try #require(Llama3Scaling(divisors: divisors, base: base))
            #expect(found.divisors(base: base, headSize: size) == divisors)
        }
        #expect(Llama3Scaling(divisors: [1, 2, 3, 4], base: 10_000) == nil)
    }
}
