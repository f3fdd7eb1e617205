import Foundation
import LoRAFormats
import OrderedCollections
import TestSupport
import Testing

@Suite("lora train --config")
struct TrainConfigurationTests {
    /// Runs with `yaml` as the configuration; base, data and output are on the command line.
    private func arguments(_ directory: URL, _ yaml: String, _ more: [String] = []) throws -> [String] {
        let file = directory.appending(path: "train.yaml")
        try file.write(yaml)
        return [
            "train", "--config", file.path, "--base", try Fixtures.tinyBase(), "--data", try Fixtures.animals(),
            "--output", directory.path + "/x.lora",
        ] + more
    }

    private func record(_ directory: URL) throws -> AdapterFile {
        try AdapterFile.read(path: directory.path + "/x.lora")
    }

    @Test("Options of the file are taken, and those of the command line win")
    func options() throws {
        try withDirectory { directory in
            let yaml = """
                # all kinds of values
                rank: 4
                alpha: 12.5
                learning-rate: 1e-2
                target: [v_proj, q_proj]
                rank-pattern:
                  v_proj: 2
                schedule: cosine
                checkpointing: off
                shuffle: false
                rslora: true
                dora: false
                epochs: 3
                quiet: yes
                """
            let output = try lora(arguments(directory, yaml, ["--rank=6", "--steps", "2"]))
            #expect(output.errors.isEmpty, "quiet comes from the file: \(output.errors)")
            let file = try record(directory)
            let options = try #require(file.record.training["options"])
            for (name, value) in [
                ("rank", .integer(6)), ("alpha", .number(12.5)), ("learning-rate", .number(0.01)),
                ("target", .string("q_proj,v_proj")), ("rank-pattern", .object(["v_proj": .integer(2)])),
                ("schedule", .string("cosine")), ("checkpointing", .string("off")), ("shuffle", .bool(false)),
                ("rslora", .bool(true)), ("dora", .bool(false)), ("steps", .integer(2)), ("epochs", nil),
            ] as [(String, JSONValue?)] { #expect(options[name] == value, "\(name): \(options)") }
            #expect(file.configuration.rank == 6 && file.configuration.usesRankStabilization)
        }
    }

    @Test("Base and data may come from the file; --shuffle overrules a file's false")
    func required() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "train.yaml")
            try file.write(
                """
                base: \(try Fixtures.tinyBase())
                data: \(try Fixtures.animals())
                output: \(directory.path)/x.lora
                steps: 1
                shuffle: false
                """)
            try lora(["train", "--config=\(file.path)", "--shuffle", "--quiet"])
            #expect(try record(directory).record.training["options"]?["shuffle"]?.boolValue == true)
        }
    }

    @Test(
        "What is wrong in the file is refused with its line",
        arguments: [
            (
                "rank: 4\nlearning_rate: 1\nseeed: 2",
                ["line 2: 'learning_rate'", "nearest is learning-rate", "line 3: 'seeed'", "nearest is seed"]
            ),
            ("alpha: 2\nrank: many", ["line 2", "many", "--rank"]),
            ("steps: 2\n\nrank: 0", ["line 3", "--rank must be from 1 to 4096"]),
            ("rank: [1, 2]", ["line 1", "1,2", "--rank"]),
            ("shuffle: sometimes", ["line 1", "shuffle must be true or false"]),
            ("rank:", ["line 1", "rank must be"]),
            ("target: [[q_proj]]", ["line 1", "target must be"]),
            ("steps: 1\nepochs: 1", ["line", "--epochs and --steps exclude each other"]),
            ("config: other.yaml", ["line 1", "'config' is no option"]),
            ("- rank", ["line 1", "expected options"]),
            ("seed: 1\nrank: 1\nalpha: 2\nrank: 2", ["line 2", "'rank' is there twice"]),
            ("rank: \"1", ["line", "not YAML"]),
        ] as [(String, [String])])
    func wrong(_ yaml: String, _ parts: [String]) throws {
        try withDirectory { directory in
            try refusal(arguments(directory, yaml), naming: ["train.yaml"] + parts)
            #expect(try names(in: directory) == ["train.yaml"])
        }
    }

    @Test("A file that is not there, and wrong usage beside a good file, are told apart")
    func usage() throws {
        try withDirectory { directory in
            try refusal(
                ["train", "--config", directory.path + "/none.yaml", "--base", "b", "--data", "d"],
                naming: ["none.yaml", "cannot open"])
            let output = try Program.run(arguments(directory, "steps: 2", ["--rank", "0"]))
            #expect(output.status == 64)
            #expect(output.errors.contains("--rank must be") && !output.errors.contains("train.yaml"))
            // The parser proposes --steps, which is in the file.
            let misspelt = try Program.run(arguments(directory, "steps: 2", ["--stepz=3"]))
            #expect(misspelt.status == 64)
            #expect(misspelt.errors.contains("--stepz") && !misspelt.errors.contains("line 1"), "\(misspelt.errors)")
        }
    }
}
