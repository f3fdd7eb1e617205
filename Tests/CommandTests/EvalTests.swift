import Foundation
import LoRAFormats
import Testing

@Suite("lora eval")
struct EvalTests {
    private func arguments(_ more: [String]) throws -> [String] {
        ["eval", "--base", try Fixtures.tinyBase(), "--data", try Fixtures.animals()] + more
    }

    @Test("Base and two adapters side by side, as one object with the agreed keys")
    func summary() throws {
        try withDirectory { directory in
            let zero = directory.appending(path: "zero.lora").path
            try Fixtures.write(Fixtures.trainedParts(), to: zero) { name, values in
                if name.contains("lora_B") { values = values.map { _ in 0 } }
            }
            let trained = try Fixtures.trainedAdapter()
            let output = try lora(arguments(["--adapter", trained, "--adapter", zero, "--json", "--quiet"]))
            #expect(output.errors.isEmpty)
            let summary = try json(output)
            #expect(
                keys(summary) == ["split", "examples", "supervised_tokens", "results"])
            #expect(summary["split"]?.stringValue == "test")
            #expect(summary["examples"]?.intValue == 6)
            let results = try #require(summary["results"]?.arrayValue)
            for result in results {
                #expect(
                    keys(result) == [
                        "adapter", "loss", "perplexity", "exact_match", "prompt_tokens", "seconds",
                    ])
                #expect((0...1).contains(result["exact_match"]?.doubleValue ?? -1))
            }
            #expect(results.map { $0["adapter"]?.stringValue } == [nil, trained, zero])
            let losses = results.compactMap { $0["loss"]?.doubleValue }
            #expect(losses.count == 3)
            #expect(losses[1] < losses[0])
            #expect(losses[2] == losses[0], "B = 0 is the base, bit for bit")
        }
    }

    @Test("The table has a line for each, and rows with every answer when asked")
    func table() throws {
        let trained = try Fixtures.trainedAdapter()
        let text = try lora(arguments(["--adapter", trained, "--show", "2", "--quiet"])).text
        let lines = text.split(separator: "\n").map(String.init)
        #expect(lines[0].hasPrefix("model") && lines[0].contains("perplexity") && lines[0].contains("exact match"))
        #expect(lines[1].hasPrefix("base") && lines[2].hasPrefix(trained))
        #expect(text.contains("test: 6 examples"))
        #expect(text.contains("28 cats"), "\(text)")
    }

    @Test("--metrics, --limit and --split are obeyed")
    func options() throws {
        let loss = try json(lora(arguments(["--metrics", "loss", "--limit", "2", "--json", "--quiet"])))
        #expect(loss["examples"]?.intValue == 2)
        #expect(loss["results"]?.arrayValue?.first?["exact_match"] == .null)
        let match = try json(lora(arguments(["--metrics", "exact-match", "--split", "valid", "--json", "--quiet"])))
        #expect(match["split"]?.stringValue == "valid")
        #expect(match["examples"]?.intValue == 4)
        #expect(match["results"]?.arrayValue?.first?["loss"] == .null)
        #expect(match["results"]?.arrayValue?.first?["perplexity"] == .null)
    }

    @Test("A split that is not there is an error")
    func missingSplit() throws {
        try withDirectory { directory in
            try directory.appending(path: "train.jsonl").write(Fixtures.rows(0..<2))
            let start = ["eval", "--base", try Fixtures.tinyBase(), "--data"]
            try refusal(start + [directory.path], naming: [directory.path, "test"])
            try refusal(start + [directory.path, "--split", "valid"], naming: [directory.path, "valid"])
            try refusal(
                start + [directory.path + "/train.jsonl", "--split", "valid"], naming: ["train.jsonl", "valid"])
        }
    }

    @Test("Plain text has a loss and no exact match")
    func plainText() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "rows.jsonl")
            try file.write("{\"text\":\"the owl\"}\n{\"text\":\"the cow\"}\n")
            let output = try lora([
                "eval", "--base", Fixtures.tinyBase(), "--data", file.path, "--json", "--quiet",
            ])
            let result = try #require(json(output)["results"]?.arrayValue?.first)
            #expect(result["exact_match"] == .null)
            #expect(try #require(result["loss"]?.doubleValue) > 0)
        }
    }
}
