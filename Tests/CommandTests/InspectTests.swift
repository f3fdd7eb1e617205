import Foundation
import LoRAFormats
import Testing

@Suite("lora inspect")
struct InspectTests {
    @Test("A base, an adapter and data, as facts and as an object")
    func kinds() throws {
        for (path, kind, facts) in [
            (try Fixtures.tinyBase(), "base", ["architecture", "hidden_size", "fingerprint", "chat_template"]),
            (try Fixtures.trainedAdapter(), "adapter", ["rank", "alpha", "targets", "base_fingerprint", "training"]),
            (try Fixtures.animals(), "data set", ["train", "valid", "test"]),
            (try Fixtures.animals() + "/test.jsonl", "data set", ["rows", "keys"]),
        ] {
            let object = try json(lora(["inspect", path, "--json"]))
            #expect(object["kind"]?.stringValue == kind)
            let text = try lora(["inspect", path]).text
            for fact in facts {
                #expect(object[fact] != nil, "\(fact)")
                #expect(text.contains(fact), "\(fact)")
            }
        }
    }

    @Test("An adapter for llama.cpp, a GGUF file like a base, is told to be one")
    func adapterInGGUF() throws {
        try withDirectory { directory in
            let file = directory.path + "/x.gguf"
            try lora([
                "export", Fixtures.trainedAdapter(), "--base", Fixtures.tinyBase(), "--format", "gguf", "--output",
                file,
            ])
            let facts = try json(lora(["inspect", file, "--json"]))
            #expect(facts["kind"]?.stringValue == "adapter" && facts["format"]?.stringValue == "gguf")
            #expect(facts["alpha"]?.doubleValue == 16)
            #expect(try facts["tensors"]?.intValue == Fixtures.trainedParts().tensors.tensors.count)
        }
    }

    @Test("The adapter's base is the base's fingerprint")
    func fingerprint() throws {
        let base = try json(lora(["inspect", Fixtures.tinyBase(), "--json"]))
        let adapter = try json(lora(["inspect", Fixtures.trainedAdapter(), "--json"]))
        #expect(base["fingerprint"]?.stringValue?.count == 64)
        #expect(base["fingerprint"] == adapter["base_fingerprint"])
    }

    @Test("What is none of these is refused")
    func refusals() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "file")
            try refusal(["inspect", file.path], naming: [file.path])
            try refusal(["inspect", directory.path], naming: [directory.path, "train.jsonl"])
            for content in ["", "\n", "text", "{", "{\"a\":", "PK", "PK\u{3}\u{4}", "GGUF", "GGUF\u{3}\0\0\0"] {
                try file.write(content)
                try refusal(["inspect", file.path], naming: [file.path])
            }
        }
    }
}
