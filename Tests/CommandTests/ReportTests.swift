import Foundation
import LoRAFormats
import TestSupport
import Testing

@Suite("What a run shows of itself")
struct ReportTests {
    private func train(_ directory: URL, _ more: [String], data: String? = nil, steps: Int = 12) throws -> [String] {
        [
            "train", "--base", try Fixtures.tinyBase(), "--data", try data ?? Fixtures.animals(), "--output",
            directory.appending(path: "x.lora").path, "--steps", String(steps), "--batch-size", "6",
            "--learning-rate", "1e-2",
        ] + more
    }

    private func events(_ directory: URL) throws -> [EventReader.Event] {
        try names(in: directory).flatMap { try EventReader.events(directory.appending(path: $0).bytes()) }
    }

    @Test("--report writes one page with every part, and the command that makes the run again")
    func report() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "a report.html")
            let arguments = try train(directory, ["--eval-every", "4", "--report", file.path, "--quiet"])
            try lora(arguments)
            let page = String(decoding: try file.bytes(), as: UTF8.self)
            for id in [
                "summary", "loss", "grad-norm", "learning-rate", "block-gradients", "change-map", "speed", "memory",
                "data", "lengths-0", "lengths-1", "answers", "options",
            ] { #expect(page.contains("id=\"\(id)\""), "\(id)") }
            #expect(page.contains("--report &#39;\(file.path)&#39;") && page.contains("lora train \\\n"))
            #expect(page.contains("24 x owl?"), "a question of the validation data")
            #expect(page.contains("data-name=\"validation\" data-steps=\"4 8 12\""))
            #expect(try names(in: directory) == ["a report.html", "x.lora"])
        }
    }

    @Test("Of pairs the chosen answers are what is expected, each once")
    func pairs() throws {
        try withDirectory { directory in
            let data = directory.appending(path: "pairs.jsonl")
            let rows = (0..<6).map { "{\"prompt\":\"\($0)?\",\"chosen\":\"yes \($0)\",\"rejected\":\"no\"}\n" }
            try data.write(rows.joined())
            let file = directory.appending(path: "report.html")
            let more = ["--objective", "dpo", "--report", file.path, "--quiet"]
            try lora(train(directory, more, data: data.path, steps: 2))
            let page = String(decoding: try file.bytes(), as: UTF8.self)
            let expected = page.components(separatedBy: "<dt>expected</dt><dd dir=\"auto\">").dropFirst().map {
                String($0.prefix { $0 != "<" })
            }
            #expect(expected == ["yes 0", "yes 1", "yes 2", "yes 3", "yes 4"])
        }
    }

    @Test("Hostile rows are text on the page")
    func hostile() throws {
        try withDirectory { directory in
            let data = directory.appending(path: "rows.jsonl")
            let attack = "</dd></pre><script>alert(1)</script>"
            let rows = (0..<4).map { Fixtures.row(question: "\(attack) \($0)", answer: attack) + "\n" }
            try data.write(rows.joined())
            let file = directory.appending(path: "report.html")
            try lora(train(directory, ["--report", file.path, "--quiet"], data: data.path, steps: 2))
            let page = String(decoding: try file.bytes(), as: UTF8.self)
            #expect(page.contains("&lt;script&gt;alert(1)"))
            #expect(page.ranges(of: "<script").count == 1)
        }
    }

    @Test("--tensorboard writes the scalars of each step while it happens, the same as the run's losses")
    func tensorboard() throws {
        try withDirectory { directory in
            let logs = directory.appending(path: "logs/x")
            let more = ["--eval-every", "5", "--tensorboard", logs.path, "--json", "--quiet"]
            let summary = try json(lora(train(directory, more)))
            let events = try events(logs)
            let losses = events.flatMap(\.scalars).filter { $0.tag == "train/loss" }.map(\.value)
            #expect(losses == summary["losses"]?.arrayValue?.compactMap { $0.doubleValue.map { Float($0) } })
            let valid = events.filter { $0.scalars.contains { $0.tag == "valid/loss" } }.map(\.step)
            #expect(valid == [5, 10, 12])
            let tags = Set(events.flatMap(\.scalars).map(\.tag))
            for tag in ["train/learning_rate", "train/grad_norm", "train/tokens_per_second", "grad_norm/block_1"] {
                #expect(tags.contains(tag), "\(tag) in \(tags)")
            }
        }
    }

    @Test("What cannot be written is refused before anything is trained")
    func refusals() throws {
        try withDirectory { directory in
            let data = directory.appending(path: "rows.jsonl")
            try data.write(Fixtures.rows(0..<8))
            let before = try data.bytes()
            for (more, parts) in [
                (["--report", directory.path + "/none/report.html"], ["none/report.html", "none"]),
                (["--report", data.path], ["rows.jsonl", "--report"]),
                (["--report", directory.path + "/x.lora"], ["x.lora", "--report"]),
                (["--report", directory.path], [directory.path, "directory"]),
                (["--tensorboard", data.path], ["rows.jsonl", "TensorBoard"]),
            ] {
                try refusal(train(directory, more, data: data.path), naming: parts)
            }
            #expect(try data.bytes() == before)
            #expect(try names(in: directory) == ["rows.jsonl"])
        }
    }
}
