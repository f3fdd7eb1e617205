import Foundation
import LoRAFormats
import OrderedCollections
import Testing

/// `lora export` and `lora import` of adapters.
@Suite("Adapters out and in")
struct ImportExportTests {
    @Test("What was exported comes back", arguments: ["peft", "gguf", "mlx"])
    func roundTrip(format: String) throws {
        try withDirectory { directory in
            let base = try Fixtures.tinyBase()
            let (exported, imported) = (directory.path + "/exported", directory.path + "/again.lora")
            let facts = try json(
                try lora([
                    "export", Fixtures.trainedAdapter(), "--base", base, "--format", format, "--output", exported,
                    "--json",
                ]))
            #expect(facts["format"] == .string(format))
            let report = try json(
                try lora(["import", exported, "--base", base, "--output", imported, "--json"]))
            let (first, second) = (try Fixtures.trainedParts(), try AdapterFile.read(path: imported))
            #expect(second.tensorDigest == first.tensorDigest)
            #expect(second.record.baseFingerprint == first.record.baseFingerprint)
            #expect(report["tensors"]?.intValue == first.tensors.tensors.count)
            #expect(report["domain"] == .string(format == "mlx" ? "again" : first.record.domain))
            let again = directory.path + "/exported-again"
            try lora(["export", imported, "--base", base, "--format", format, "--output", again])
            if format == "gguf" {
                #expect(try URL(filePath: exported).bytes() == URL(filePath: again).bytes())
            }
        }
    }

    @Test("--base-name is the base that PEFT shall load")
    func baseName() throws {
        try withDirectory { directory in
            try lora([
                "export", Fixtures.trainedAdapter(), "--base", Fixtures.tinyBase(), "--format", "peft", "--output",
                directory.path + "/peft", "--base-name", "org/tiny",
            ])
            let file = directory.appending(path: "peft/adapter_config.json")
            #expect(try JSONValue(parsing: file.bytes())["base_model_name_or_path"] == .string("org/tiny"))
        }
    }

    @Test("What does not fit is refused, and nothing is written")
    func refusals() throws {
        try withDirectory { directory in
            let (base, output) = (try Fixtures.tinyBase(), directory.path + "/output.lora")
            let (peft, gguf) = (directory.path + "/peft", directory.path + "/adapter.gguf")
            try lora([
                "export", Fixtures.trainedAdapter(), "--base", base, "--format", "peft", "--output", peft,
            ])
            try lora([
                "export", Fixtures.trainedAdapter(), "--base", base, "--format", "gguf", "--output", gguf,
            ])
            let before = try names(in: directory)
            let other = try Fixtures.otherBase()
            for source in [peft, gguf] {
                try refusal(
                    ["import", source, "--base", other, "--output", output],
                    naming: [source, "another base", "--allow-other-base"])
            }
            try refusal(
                ["import", Fixtures.trainedAdapter(), "--base", base, "--output", output], naming: ["ZIP archive"])
            try refusal(
                ["import", directory.path + "/none", "--base", base, "--output", output], naming: ["no such file"])
            try refusal(["import", gguf, "--base", base, "--output", gguf], naming: [gguf, "--output"])
            let configuration = URL(filePath: peft + "/adapter_config.json")
            var members = try #require(JSONValue(parsing: configuration.bytes()).objectValue)
            members["bias"] = .string("lora_only")
            members["modules_to_save"] = .array([.string("lm_head")])
            try configuration.write(JSONValue.object(members).serialized())
            try refusal(
                ["import", peft, "--base", base, "--output", output],
                naming: [peft, "bias is \"lora_only\"", "modules_to_save"])
            #expect(try names(in: directory) == before)
        }
    }
}
