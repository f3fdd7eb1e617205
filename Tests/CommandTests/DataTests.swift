import Foundation
import LoRAFormats
import Testing

@Suite("Data of lora train")
struct DataTests {
    private func arguments(_ data: String, _ output: URL, _ more: [String]) throws -> [String] {
        [
            "train", "--base", try Fixtures.tinyBase(), "--data", data, "--output", output.path, "--steps", "2",
            "--batch-size", "4",
        ] + more
    }

    private func conversation(_ answers: [String], weights: [Int]? = nil) -> String {
        let turns = answers.enumerated().map { index, answer in
            let weight = weights.map { ",\"weight\":\($0[index])" } ?? ""
            return "{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"\(answer)\"\(weight)}"
        }
        return "{\"messages\":[\(turns.joined(separator: ","))]}\n"
    }

    private func dryRun(_ rows: String, _ more: [String] = []) throws -> String {
        try withDirectory { directory in
            let data = directory.appending(path: "rows.jsonl")
            try data.write(rows)
            return try lora(arguments(data.path, directory.appending(path: "x.lora"), ["--dry-run"] + more)).text
        }
    }

    @Test("--mask and weights decide which answers are learned")
    func masks() throws {
        let rows = conversation(["one", "two", "three"])
        let learned = { (text: String) in
            text.split(separator: "[[").dropFirst().compactMap {
                $0.split(separator: "<|im_end|>").first.map(String.init)
            }
        }
        #expect(try learned(dryRun(rows)) == ["one", "two", "three"])
        #expect(try learned(dryRun(rows, ["--mask", "all"])) == ["one", "two", "three"])
        #expect(try learned(dryRun(rows, ["--mask", "last"])) == ["three"])
        #expect(try learned(dryRun(conversation(["one", "two", "three"], weights: [0, 1, 0]))) == ["two"])
    }

    @Test("--hold-out validates on rows that are not trained on, and only where there are no others")
    func holdOut() throws {
        try withDirectory { directory in
            let data = directory.appending(path: "rows.jsonl")
            try data.write(Fixtures.rows(0..<20))
            let output = directory.appending(path: "x.lora")
            for (part, counts) in [("0.2", "16 examples.*4 examples"), ("5", "15 examples.*5 examples")] {
                let text = try lora(arguments(data.path, output, ["--dry-run", "--hold-out", part])).text
                #expect(try text.contains(Regex(counts).dotMatchesNewlines()), "\(text)")
                #expect(text.contains("0 of the validation examples are trained on"), "\(text)")
            }
            let plain = try json(lora(arguments(data.path, output, ["--json", "--quiet"])))
            #expect(plain["best_valid_loss"] == .null)
            let held = try json(lora(arguments(data.path, output, ["--json", "--quiet", "--hold-out", "4"])))
            #expect(try #require(held["best_valid_loss"]?.doubleValue) > 0)
            try refusal(
                arguments(Fixtures.animals(), output, ["--hold-out", "4"]), naming: ["valid.jsonl", "--hold-out"])
            try refusal(
                arguments(data.path, output, ["--hold-out", "20"]),
                naming: ["rows.jsonl", "nothing is left to train on"])
        }
    }

    @Test("--dry-run counts copies inside a split and across, shows lengths, and says how long it takes")
    func dryRun() throws {
        try withDirectory { directory in
            let data = directory.appending(path: "data")
            try FileManager.default.createDirectory(at: data, withIntermediateDirectories: false)
            let long = Fixtures.row(question: String(repeating: "x", count: 90), answer: "b") + "\n"
            try data.appending(path: "train.jsonl").write(
                Fixtures.rows(0..<10) + Fixtures.rows(3..<6) + long
                    + "{\"messages\":[{\"role\":\"assistant\",\"content\":\"\"}]}")
            try data.appending(path: "valid.jsonl").write(Fixtures.rows(8..<15))
            try data.appending(path: "test.jsonl").write(Fixtures.rows(9..<20))
            let output = try lora(
                arguments(data.path, directory.appending(path: "x.lora"), ["--dry-run", "--max-length", "200"]))
            for part in [
                "14 examples, 1 skipped", "7 examples",
                "3 in the training data; 2 of the validation examples and 1 of the test examples are trained on",
                "tokens/s", "#####", "of buffers",
            ] { #expect(output.text.contains(part), "\(part): \(output.text)") }
            #expect(output.errors.contains("1 row without an answer"))
            #expect(try names(in: directory) == ["data"])
            let counts = output.text.split(separator: "\n").compactMap { line in
                line.firstMatch(of: /^ +\d+ - \d+ +(\d+)/).flatMap { Int($0.1) }
            }
            #expect(counts.reduce(0, +) == 14 && counts.count > 2, "\(output.text)")
        }
    }

    @Test("On a terminal what is learned is green, unless NO_COLOR is set; control characters of rows stay harmless")
    func colours() throws {
        try withDirectory { directory in
            let data = directory.appending(path: "rows.jsonl")
            try data.write(conversation(["\\u001b[31mred"]))
            let run = { (environment: [String: String]) in
                try lora(
                    arguments(data.path, directory.appending(path: "x.lora"), ["--dry-run"]), environment: environment,
                    script: "exec script -qec \"$0 $*\" /dev/null"
                ).text
            }
            let coloured = try run(["NO_COLOR": ""])
            #expect(coloured.contains("\u{1B}[32m\\u{1B}[31mred<|im_end|>"), "\(coloured)")
            let plain = try run(["NO_COLOR": "1"])
            #expect(plain.contains("[[\\u{1B}[31mred<|im_end|>") && !plain.contains("\u{1B}"), "\(plain)")
        }
    }

    @Test("Tokens of large data are kept and taken again: the same adapter, byte for byte, and nothing written anew")
    func cache() throws {
        try withDirectory { directory in
            let data = directory.appending(path: "rows.jsonl")
            try data.write(Fixtures.rows(0..<12_000))
            try FileManager.default.setAttributes(
                [.modificationDate: Date(timeIntervalSinceNow: -100)], ofItemAtPath: data.path)
            let output = directory.appending(path: "x.lora")
            let cache = directory.appending(path: "cache/lora/tokens")
            var adapters: [[UInt8]] = []
            var inodes: [Int?] = []
            for home in ["cache", "cache", "rows.jsonl"] {
                let run = try lora(
                    arguments(data.path, output, ["--quiet"]),
                    environment: [
                        "XDG_CACHE_HOME": directory.appending(path: home).path, "SOURCE_DATE_EPOCH": "1700000000",
                    ])
                // A file in the place of the cache's directory.
                #expect(run.errors.contains("its tokens cannot be kept") == (home == "rows.jsonl"), "\(run.errors)")
                adapters.append(try output.bytes())
                let file = try #require(try names(in: cache).first { $0.hasSuffix(".tokens") })
                let attributes = try FileManager.default.attributesOfItem(atPath: cache.path + "/" + file)
                inodes.append(attributes[.systemFileNumber] as? Int)
            }
            #expect(adapters[0] == adapters[1] && adapters[0] == adapters[2])
            #expect(Set(inodes).count == 1 && inodes[0] != nil)
            #expect(try names(in: cache).count == 3)
        }
    }

    @Test("Gigantic lines, halves of characters and NUL are told with their lines, whatever is beside them")
    func hostileLines() throws {
        try withDirectory { directory in
            let data = directory.appending(path: "rows.jsonl")
            let good = Fixtures.row(question: "a", answer: "b")
            let bytes =
                Array("\u{FEFF}\(good)\r\n{\"messages\": \"".utf8) + [0xC3, 0x0A, 0x00, 0x0A]
                + [UInt8](repeating: 0x78, count: 70 << 20) + Array("\n\(good)\n{\"messages\":3}".utf8)
            try data.write(bytes)
            try refusal(
                arguments(data.path, directory.appending(path: "x.lora"), []),
                naming: [
                    "4 of 6 rows", "rows.jsonl:2: ", "UTF-8", "rows.jsonl:3: ", "byte 0x0",
                    "rows.jsonl:4: the line has \(70 << 20) bytes", "rows.jsonl:6: \"messages\" must be",
                ])
        }
    }

    @Test("lora inspect tells rows, form and digest of a file of any size")
    func inspect() throws {
        try withDirectory { directory in
            let data = directory.appending(path: "rows.jsonl")
            try data.write("\u{FEFF}\r\n" + "{\"prompt\":\"a\",\"completion\":\"b\",\"id\":1}\r\n\r\nwhatever\n")
            let facts = try json(lora(["inspect", data.path, "--json"]))
            #expect(facts["rows"]?.intValue == 2)
            #expect(facts["form"]?.stringValue == "prompt + completion")
            #expect(facts["keys"]?.arrayValue?.compactMap(\.stringValue) == ["prompt", "completion", "id"])
            #expect(try facts["sha256"]?.stringValue == Digest.hexadecimal(of: data.bytes()))
            try data.write("{\"question\":\"a\"}\n")
            try refusal(["inspect", data.path], naming: ["rows.jsonl:1: ", "\"question\""])
        }
    }
}

extension Digest {
    fileprivate static func hexadecimal(of bytes: [UInt8]) -> String { bytes.withUnsafeBytes { hexadecimal(of: $0) } }
}
