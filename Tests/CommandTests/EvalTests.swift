import Foundation
import LoRAFormats
import TestSupport
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

    @Test("A name of several code units a letter is there whole")
    func names() throws {
        try withDirectory { directory in
            let path = directory.appending(path: "e\u{301} 👩‍👩‍👧‍👦.lora").path
            try FileManager.default.copyItem(atPath: Fixtures.trainedAdapter(), toPath: path)
            let output = try lora(arguments(["--adapter", path, "--metrics", "loss", "--limit", "1", "--quiet"]))
            let lines = output.text.split(separator: "\n")
            #expect(lines.contains { $0.hasPrefix(path + " ") }, "\(output.text)")
        }
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

    @Test("--mask last has a loss of a conversation's last answer alone")
    func mask() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "rows.jsonl")
            let turns = ["one", "two"].map {
                "{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"\($0)\"}"
            }
            try file.write("{\"messages\":[\(turns.joined(separator: ","))]}\n")
            let supervised = { (more: [String]) in
                let output = try lora(
                    ["eval", "--base", Fixtures.tinyBase(), "--data", file.path, "--json", "--quiet"] + more)
                return try #require(json(output)["supervised_tokens"]?.intValue)
            }
            let last = try supervised(["--mask", "last"])
            #expect(last >= "two".count)
            #expect(try supervised([]) == 2 * last)
            #expect(try supervised(["--mask", "all"]) == 2 * last)
        }
    }

    @Test("--limit counts rows: exact match asks about those that have the loss")
    func limit() throws {
        try withDirectory { directory in
            let (base, file) = (directory.path + "/base.bin", directory.appending(path: "rows.jsonl"))
            var tiny = TinyBase(seed: 1)
            tiny.template = TinyBase.template.replacing("m['content']", with: "(m['content'] or 'call')")
            try tiny.write(to: base)
            // An answer that calls a tool has no text to compare with.
            let call = """
                {"messages":[{"role":"user","content":"q"},{"role":"assistant","content":null,"tool_calls":\
                [{"type":"function","function":{"name":"f","arguments":{}}}]}]}

                """
            try file.write(call + Fixtures.rows(0..<3))
            let result = { (limit: String) in
                let output = try lora(["eval", "--base", base, "--data", file.path, "--limit", limit, "--json"])
                return try #require(json(output)["results"]?.arrayValue?.first)
            }
            #expect(try result("1")["exact_match"] == .null)
            #expect(try result("1")["prompt_tokens"]?.intValue == 0)
            #expect(try result("2")["exact_match"]?.doubleValue != nil)
        }
    }

    @Test("What rows and answers hold cannot steer a terminal")
    func controlCharacters() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "rows.jsonl")
            try file.write(Fixtures.row(question: "a\u{1B}[2Jb\r\nc", answer: "\u{1B}]0;x\u{7}yes") + "\n")
            let text = try lora([
                "eval", "--base", Fixtures.tinyBase(), "--data", file.path, "--show", "1", "--quiet",
            ]).text
            #expect(text.contains(" [2Jb ⏎c") && text.contains(" ]0;x yes"), "\(text)")
            #expect(!text.unicodeScalars.contains { $0.properties.generalCategory == .control && $0 != "\n" })
        }
    }

    @Test("An adapter that is not there is told before the data is read")
    func missingAdapter() throws {
        try withDirectory { directory in
            let adapter = directory.path + "/none.lora"
            try refusal(
                ["eval", "--base", Fixtures.tinyBase(), "--data", directory.path, "--adapter", adapter],
                naming: [adapter])
        }
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
