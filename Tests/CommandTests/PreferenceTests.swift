import Foundation
import LoRAFormats
import Testing

@Suite("Preference tuning")
struct PreferenceTests {
    /// 24 pairs to train on, 6 to validate and 8 to test with: the right animal is preferred to a wrong one.
    private func data(_ directory: URL) throws -> String {
        let animals = ["cat", "dog", "cow", "owl", "fox", "hen", "bee"]
        func rows(_ numbers: Range<Int>) -> String {
            numbers.map { number in
                let (right, wrong) = (animals[number % 7], animals[(number + 3) % 7])
                return
                    "{\"prompt\":\"\(number) \(right)?\",\"chosen\":\"\(right)\",\"rejected\":\"\(wrong) no\"}\n"
            }.joined()
        }
        let data = directory.appending(path: "pairs")
        try FileManager.default.createDirectory(at: data, withIntermediateDirectories: false)
        try data.appending(path: "train.jsonl").write(rows(0..<24))
        try data.appending(path: "valid.jsonl").write(rows(24..<30))
        try data.appending(path: "test.jsonl").write(rows(30..<38))
        return data.path
    }

    private func arguments(
        _ data: String, _ output: URL, _ objective: String, _ more: [String] = [], steps: Int = 20
    ) throws -> [String] {
        [
            "train", "--base", try Fixtures.tinyBase(), "--data", data, "--output", output.path,
            "--objective",
            objective, "--steps", "\(steps)", "--batch-size", "6", "--learning-rate", "1e-2", "--json",
        ] + more
    }

    @Test(
        "A run lowers the loss, its record names the objective, and eval finds the preference",
        arguments: ["dpo", "orpo"])
    func run(objective: String) throws {
        try withDirectory { directory in
            let data = try data(directory)
            let file = directory.appending(path: "x.lora")
            let summary = try json(lora(arguments(data, file, objective, ["--beta", "0.3", "--quiet"])))
            let losses = try #require(summary["losses"]?.arrayValue).compactMap(\.doubleValue)
            #expect(losses.count == 20)
            if objective == "dpo" {
                #expect(abs(losses[0] - 0.693147) < 1e-5, "nothing is preferred at the start")
            }
            #expect(try #require(losses.last) < 0.9 * losses[0], "\(losses)")
            #expect(try #require(summary["best_valid_loss"]?.doubleValue) < losses[0])
            let record = try AdapterFile.read(path: file.path).record.training
            #expect(record["options"]?["objective"]?.stringValue == objective)
            #expect(record["options"]?["beta"]?.doubleValue == 0.3)
            #expect(record["examples"]?.intValue == 24)

            let eval = [
                "eval", "--base", try Fixtures.tinyBase(), "--data", data, "--adapter", file.path,
                "--quiet",
            ]
            let report = try json(lora(eval + ["--beta", "0.3", "--json"]))
            #expect(keys(report) == ["split", "pairs", "beta", "results"])
            #expect(report["pairs"]?.intValue == 8 && report["beta"]?.doubleValue == 0.3)
            let results = try #require(report["results"]?.arrayValue)
            #expect(results.count == 2)
            for result in results {
                #expect(
                    keys(result) == [
                        "adapter", "loss", "perplexity", "ranking_accuracy", "preference_accuracy",
                        "reward_margin",
                        "seconds",
                    ])
            }
            #expect(results[0]["preference_accuracy"] == .null && results[0]["reward_margin"] == .null)
            #expect(try #require(results[1]["preference_accuracy"]?.doubleValue) > 0.5)
            let margin = try #require(results[1]["reward_margin"]?.doubleValue)
            #expect(margin > 0)
            let doubled = try json(lora(eval + ["--beta", "0.6", "--json", "--limit", "8"]))
            let other = try #require(doubled["results"]?.arrayValue?[1]["reward_margin"]?.doubleValue)
            #expect(abs(other - 2 * margin) < 1e-9)
            let text = try lora(eval + ["--limit", "2"]).text
            #expect(text.contains("ranking") && text.contains("margin") && text.contains("test: 2 pairs"))
        }
    }

    @Test("One seed gives one file; training goes on from an adapter, which is the reference then")
    func reproducible() throws {
        try withDirectory { directory in
            let data = try data(directory)
            let (file, next) = (directory.appending(path: "x.lora"), directory.appending(path: "y.lora"))
            let date = ["SOURCE_DATE_EPOCH": "1700000000"]
            try lora(arguments(data, file, "dpo", ["--quiet"]), environment: date)
            let once = try file.bytes()
            try lora(arguments(data, file, "dpo", ["--quiet"]), environment: date)
            #expect(try file.bytes() == once)
            let summary = try json(
                lora(arguments(data, next, "dpo", ["--init-adapter", file.path, "--quiet"])))
            let first = try #require(summary["first_loss"]?.doubleValue)
            #expect(abs(first - 0.693147) < 1e-5)
        }
    }

    @Test(
        "A run that was killed goes on to the same bytes: its reference is what it began with, not the checkpoint"
    )
    func resume() throws {
        try withDirectory { directory in
            let data = try data(directory)
            let (first, whole) = (
                directory.appending(path: "a.lora"), directory.appending(path: "whole/b.lora")
            )
            // An adapter's record has the domain that its file is named after.
            let cut = directory.appending(path: "cut/b.lora")
            for file in [whole, cut] {
                try FileManager.default.createDirectory(
                    at: file.deletingLastPathComponent(), withIntermediateDirectories: false)
            }
            let date = ["SOURCE_DATE_EPOCH": "1700000000"]
            try lora(arguments(data, first, "orpo", ["--quiet"]), environment: date)
            let more = ["--init-adapter", first.path, "--save-every", "5", "--threads", "1", "--quiet"]
            try lora(arguments(data, whole, "dpo", more, steps: 200), environment: date)
            let checkpoints = URL(filePath: cut.path + ".checkpoints")
            var isSent = false
            let killed = try Program.run(arguments(data, cut, "dpo", more, steps: 200), environment: date) { child, _ in
                let hasCheckpoint =
                    (try? names(in: checkpoints).contains { $0.hasPrefix("step-") }) ?? false
                if hasCheckpoint, !isSent { isSent = kill(child, SIGKILL) == 0 }
            }
            #expect(killed.status == 128 + SIGKILL)
            let resumed = try arguments(
                data, cut, "dpo", more + ["--resume", checkpoints.path], steps: 200)
            try refusal(
                resumed.filter { $0 != "--quiet" } + ["--beta", "0.2"], naming: ["another run", "--beta"])
            try lora(resumed, environment: date)
            #expect(try cut.bytes() == whole.bytes())
        }
    }

    @Test(
        "The log has TRL's figures, a dry run shows both texts of a pair, and --hold-out keeps pairs whole"
    )
    func views() throws {
        try withDirectory { directory in
            let (data, file) = (try data(directory), directory.appending(path: "x.lora"))
            let log = directory.appending(path: "run.jsonl")
            try lora(arguments(data, file, "orpo", ["--log", log.path, "--quiet"]))
            let lines = try log.bytes().split(separator: UInt8(ascii: "\n")).map {
                try JSONValue(parsing: Array($0))
            }
            let names = [
                "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins",
                "logps/chosen",
                "logps/rejected", "nll_loss", "log_odds_ratio", "log_odds_chosen",
            ]
            #expect(lines.count > 20)
            #expect(lines.contains { $0["valid_loss"] != nil })
            #expect(lines.allSatisfy { keys($0["metrics"]) == names })

            let plain = try lora(
                arguments(data + "/train.jsonl", file, "dpo", ["--hold-out", "0.25", "--dry-run"]).filter {
                    $0 != "--json"
                })
            #expect(
                plain.text.contains("18 examples") && plain.text.contains("6 examples"), "\(plain.text)")
            let previews = plain.text.split(separator: "\n").filter { $0.hasPrefix("line ") }
            #expect(previews.count == 6)
            for index in stride(from: 0, to: 6, by: 2) {
                #expect(previews[index].prefix { $0 != ":" } == previews[index + 1].prefix { $0 != ":" })
            }
            #expect(plain.text.contains(" no<|im_end|>"))
            let range = try json(
                lora(
                    arguments(data, file, "dpo", ["--find-lr", "--quiet"], steps: 12)))
            let points = try #require(range["points"]?.arrayValue)
            #expect(abs(try #require(points.first?["loss"]?.doubleValue) - 0.693147) < 1e-5)
        }
    }

    @Test("Objective and rows have to agree; --beta belongs to dpo and orpo")
    func refusals() throws {
        try withDirectory { directory in
            let (data, file) = (try data(directory), directory.appending(path: "x.lora"))
            try refusal(
                arguments(data, file, "sft"), naming: ["pairs/train.jsonl", "--objective dpo or orpo"])
            try refusal(
                arguments(try Fixtures.animals(), file, "dpo").dropLast(1),
                naming: ["train.jsonl", "messages", "prompt + chosen + rejected"])
            for more in [["--metrics", "exact-match"], ["--show", "2"]] {
                try refusal(
                    ["eval", "--base", Fixtures.tinyBase(), "--data", data] + more,
                    naming: ["pairs/test.jsonl", "exact match", "--show"])
            }
            for (objective, more) in [
                ("sft", ["--beta", "0.1"]), ("dpo", ["--beta", "0"]), ("orpo", ["--beta", "nan"]),
            ] {
                let output = try Program.run(arguments(data, file, objective, more))
                #expect(output.status == 64 && output.errors.contains("--beta"), "\(output.errors)")
            }
            let output = try Program.run(
                ["eval", "--base", "x", "--data", data, "--beta", "-1"])
            #expect(output.status == 64)
            #expect(try names(in: directory) == ["pairs"])
        }
    }
}
