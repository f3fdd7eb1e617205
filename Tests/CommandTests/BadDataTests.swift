import Foundation
import TestSupport
import Testing

@Suite("Bad data")
struct BadDataTests {
    /// Writes `rows` as train.jsonl and expects that training and a dry run refuse them.
    private func refuse(_ rows: [UInt8], naming parts: [String]) throws {
        try withDirectory { directory in
            let data = directory.appending(path: "data")
            try FileManager.default.createDirectory(at: data, withIntermediateDirectories: false)
            try data.appending(path: "train.jsonl").write(rows)
            let arguments = [
                "train", "--base", try Fixtures.tinyBase(), "--data", data.path, "--output", directory.path + "/x.lora",
            ]
            try refusal(arguments, naming: parts)
            try refusal(arguments + ["--dry-run"], naming: parts)
            #expect(try names(in: directory) == ["data"])
        }
    }

    private let good = Fixtures.row(question: "a", answer: "b")

    @Test("Bad JSON is listed with every line")
    func json() throws {
        let rows = [good, good, "{\"messages\": [}", good, good, "", "not JSON", good].joined(separator: "\n")
        try refuse(Array(rows.utf8), naming: ["train.jsonl:3: ", "train.jsonl:7: ", "2 of 7 rows"])
    }

    @Test("A row cut short, an array, a number, and control characters stay in one line")
    func shapes() throws {
        for row in [
            String(good.dropLast(5)), "[]", "3", "{\"messages\": \"\u{1B}[31m\u{7F}\"}", "{}", "{\"a\u{1}\": 1}",
        ] {
            try refuse(Array(row.utf8), naming: ["train.jsonl:1: "])
        }
    }

    @Test("Wrong keys are told with the right ones")
    func keys() throws {
        try refuse(
            Array("{\"question\": \"a\", \"answer\": \"b\"}\n".utf8),
            naming: ["train.jsonl:1: ", "\"question\"", "\"answer\"", "prompt + completion", "messages"])
        try refuse(
            Array("\(good)\n{\"prompt\": \"a\", \"completion\": \"b\"}\n".utf8),
            naming: ["train.jsonl:2: ", "no \"messages\""])
        try refuse(
            Array("{\"messages\": [{\"role\": \"king\", \"content\": \"a\"}]}\n".utf8),
            naming: ["train.jsonl:1: ", "\"king\"", "assistant"])
        try refuse(
            Array("{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n".utf8),
            naming: ["train.jsonl:1: ", "no answer of the assistant"])
    }

    @Test("Empty files and files of blank lines have no row")
    func empty() throws {
        for content in ["\n", " \r\n\n"] { try refuse(Array(content.utf8), naming: ["train.jsonl", "no row"]) }
        try refuse([], naming: ["train.jsonl", "empty"])
    }

    @Test("What is not UTF-8 is named with its line")
    func notUnicode() throws {
        try refuse(
            Array("\(good)\n{\"text\": \"".utf8) + [0xFF, 0xFE] + Array("\"}\n".utf8),
            naming: ["train.jsonl:2: ", "UTF-8"])
    }

    @Test("Missing data, and a directory without the file")
    func missing() throws {
        try withDirectory { directory in
            let start = ["train", "--base", try Fixtures.tinyBase(), "--output", directory.path + "/x.lora", "--data"]
            try refusal(start + [directory.path + "/none"], naming: [directory.path + "/none", "No such file"])
            try refusal(start + [directory.path], naming: [directory.path, "train.jsonl"])
            try refusal(start + ["/dev/null"], naming: ["/dev/null"])
        }
    }

    @Test("Rows over the limit and rows without an answer are counted and listed, and the run goes on")
    func skips() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "rows.jsonl")
            let long = Fixtures.row(question: String(repeating: "x", count: 80), answer: "b")
            let plain = { (text: String) in "{\"text\": \"\(text)\"}" }
            let start = [
                "train", "--base", try Fixtures.tinyBase(), "--data", file.path, "--output", directory.path + "/x.lora",
                "--quiet", "--json",
            ]
            try file.write([good, long, good, long].joined(separator: "\n"))
            let output = try lora(start + ["--max-length", "60"])
            #expect(output.errorLines.count == 1)
            #expect(
                output.errors.hasPrefix("warning: rows.jsonl: 2 rows over the limit of 60 tokens"), "\(output.errors)")
            #expect(output.errors.contains("2 (") && output.errors.contains("4 ("), "\(output.errors)")
            #expect(output.errors.contains("--max-length"))

            try file.write([plain("b"), plain(""), plain("c")].joined(separator: "\n"))
            let second = try lora(start)
            #expect(second.errorLines.count == 1)
            #expect(second.errors.contains("warning: rows.jsonl: 1 row without an answer"), "\(second.errors)")

            try file.write(long)
            let nothing = try Program.run(start + ["--max-length", "60"])
            #expect(nothing.status == 1)
            #expect(
                nothing.errors.hasPrefix("Error: ") && nothing.errors.contains("no row is left"), "\(nothing.errors)")
        }
    }

    @Test("A row beyond the base's context is skipped, and nobody is sent to raise --max-length")
    func context() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "rows.jsonl")
            try file.write(good + "\n" + Fixtures.row(question: String(repeating: "x", count: 400), answer: "b"))
            let output = try lora([
                "train", "--base", Fixtures.tinyBase(), "--data", file.path, "--output", directory.path + "/x.lora",
                "--quiet",
            ])
            #expect(output.errors.contains("over the limit of \(TinyBase.contextLength) tokens"), "\(output.errors)")
            #expect(output.errors.contains("context"), "\(output.errors)")
            #expect(!output.errors.contains("--max-length"), "\(output.errors)")
        }
    }
}
