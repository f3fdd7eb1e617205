import Foundation
import LoRAFormats
import OrderedCollections
import TestSupport
import Testing

@Suite("A run of lora train")
struct RunTests {
    private func run(_ directory: URL, _ more: [String], steps: Int = 8) throws -> Program.Output {
        try lora(TrainTests.arguments(directory.appending(path: "x.lora"), more + ["--quiet"], steps: steps))
    }

    private func lines(_ file: URL) throws -> [JSONValue] {
        try file.bytes().split(separator: UInt8(ascii: "\n")).map { try JSONValue(parsing: Array($0)) }
    }

    /// The record in the adapter's file.
    private func record(_ directory: URL) throws -> JSONValue {
        try AdapterFile.read(path: directory.path + "/x.lora").record.training
    }

    @Test("--log has a line for each step and each validation, in their order")
    func log() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "run.jsonl")
            try file.write("an older log\n")
            _ = try run(directory, ["--log", file.path, "--eval-every", "3"])
            let lines = try lines(file)
            #expect(lines.map { $0["step"]?.intValue } == [1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 8])
            let isEvaluation = lines.map { $0["valid_loss"] != nil }
            #expect(isEvaluation == [3, 7, 10].reduce(into: Array(repeating: false, count: 11)) { $0[$1] = true })
            #expect(
                keys(lines[0]) == [
                    "step", "epoch", "loss", "grad_norm", "learning_rate", "tokens", "supervised_tokens",
                    "tokens_per_second", "peak_rss_bytes", "seconds", "block_grad_norms",
                ])
            #expect(keys(lines[3]) == ["step", "valid_loss", "best", "seconds"])
            #expect(lines[0]["epoch"]?.doubleValue == 0.25)
            #expect(lines[0]["learning_rate"]?.doubleValue == 0)
            let norms = try #require(lines[0]["block_grad_norms"]?.arrayValue).compactMap(\.doubleValue)
            let norm = try #require(lines[0]["grad_norm"]?.doubleValue)
            #expect(norms.count == 2)
            #expect(abs(norms.reduce(0) { $0 + $1 * $1 }.squareRoot() - norm) < 1e-6 * norm)
        }
    }

    @Test("The best adapter in validation is kept unless --keep says the last; --patience ends a run that gets worse")
    func keep() throws {
        try withDirectory { directory in
            // A rate at which the loss goes up and down; what must be kept follows from the log.
            let log = directory.appending(path: "run.jsonl")
            let more = ["--eval-every", "2", "--learning-rate", "5e-2", "--schedule", "constant", "--json"]
            let best = try json(run(directory, more + ["--log", log.path], steps: 24))
            let evaluations = try lines(log).compactMap { line in
                try line["valid_loss"]?.doubleValue.map { (step: try #require(line["step"]?.intValue), loss: $0) }
            }
            #expect(evaluations.count == 12)
            let lowest = try #require(evaluations.min { $0.loss < $1.loss })
            let kept = try record(directory)
            #expect(kept["kept_step"]?.intValue == lowest.step && kept["valid_loss"]?.doubleValue == lowest.loss)
            #expect(best["best_valid_loss"]?.doubleValue == lowest.loss)
            let file = directory.appending(path: "x.lora")
            let bestTensors = try AdapterFile.read(path: file.path).tensorDigest

            let last = try json(run(directory, more + ["--keep", "last"], steps: 24))
            #expect(last["losses"] == best["losses"])
            #expect(last["best_valid_loss"] == best["best_valid_loss"])
            #expect(try record(directory)["kept_step"]?.intValue == 24)
            #expect(try record(directory)["valid_loss"]?.doubleValue == evaluations.last?.loss)
            let lastTensors = try AdapterFile.read(path: file.path).tensorDigest
            #expect((lastTensors == bestTensors) == (lowest.step == 24))

            let patient = try json(run(directory, more + ["--patience", "1"], steps: 24))
            let worse = zip(evaluations, evaluations.dropFirst()).first { $0.0.loss <= $0.1.loss }
            #expect(patient["steps"]?.intValue == worse?.1.step ?? 24)
            #expect(try record(directory)["kept_step"]?.intValue == worse?.0.step ?? 24)
        }
    }

    @Test("Validation follows each epoch unless --eval-every says otherwise")
    func everyEpoch() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "run.jsonl")
            _ = try run(directory, ["--log", file.path], steps: 10)
            let evaluations = try lines(file).filter { $0["valid_loss"] != nil }.map { $0["step"]?.intValue }
            #expect(evaluations == [4, 8, 10])
        }
    }

    @Test("The adapter's record has the options that made it")
    func resolvedOptions() throws {
        try withDirectory { directory in
            _ = try run(
                directory, ["--rank", "3", "--eval-every", "2", "--patience", "9", "--keep", "last"], steps: 2)
            let options = try #require(try record(directory)["options"])
            for (name, value) in [
                ("rank", .integer(3)), ("alpha", .number(16)), ("steps", .integer(2)), ("batch-size", .integer(6)),
                ("learning-rate", .number(0.01)), ("seed", .string("0")), ("eval-every", .integer(2)),
                ("patience", .integer(9)), ("keep", .string("last")), ("shuffle", .bool(true)),
            ] as [(String, JSONValue)] { #expect(options[name] == value, "\(name)") }
        }
    }

    @Test("What needs validation data says so where there is none")
    func noValidation() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "rows.jsonl")
            try file.write(Fixtures.rows(0..<8))
            let arguments = [
                "train", "--base", try Fixtures.tinyBase(), "--data", file.path, "--output",
                directory.path + "/x.lora", "--steps", "2",
            ]
            for more in [["--eval-every", "1"], ["--patience", "1"], ["--keep", "best"]] {
                try refusal(arguments + more, naming: [more[0], "rows.jsonl", "validation data", "valid.jsonl"])
            }
            let summary = try json(lora(arguments + ["--keep", "last", "--json", "--quiet"]))
            #expect(summary["best_valid_loss"]?.isNull ?? false)
        }
    }

    @Test("--log must not take the place of what is read, nor of the adapter")
    func logInTheWay() throws {
        try withDirectory { directory in
            let data = directory.appending(path: "rows.jsonl")
            try data.write(Fixtures.rows(0..<8))
            let before = try data.bytes()
            let output = directory.path + "/x.lora"
            let arguments = [
                "train", "--base", try Fixtures.tinyBase(), "--data", data.path, "--output", output, "--steps", "2",
            ]
            try refusal(arguments + ["--log", data.path], naming: ["training data itself", "--log"])
            try refusal(arguments + ["--log", output], naming: ["--output as well", "--log"])
            // The same place in other words, when nothing is there yet.
            try refusal(arguments + ["--log", directory.path + "/./x.lora"], naming: ["--output as well", "--log"])
            try refusal(arguments + ["--checkpoints", output], naming: ["--output as well", "--checkpoints"])
            let page = directory.path + "/page.html"
            try refusal(arguments + ["--log", page, "--report", page], naming: ["--log as well", "--report"])
            try refusal(arguments + ["--log", directory.path + "/none/run.jsonl"], naming: ["none/run.jsonl"])
            #expect(try data.bytes() == before)
            #expect(try names(in: directory) == ["rows.jsonl"])
        }
    }

    @Test("LoRA+ lets B learn faster; a ratio of 1 is the plain run")
    func loraPlus() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "x.lora")
            var tensors: [SafetensorsFile] = []
            for ratio in ["1", "8"] {
                _ = try run(directory, ["--lora-plus-ratio", ratio, "--warmup", "0", "--precision", "f32"], steps: 1)
                tensors.append(try AdapterFile.read(path: file.path).tensors)
            }
            for tensor in tensors[0].tensors {
                let plain = try tensors[0].floats(of: tensor)
                let plus = try tensors[1].floats(of: #require(tensors[1].tensor(named: tensor.name)))
                if tensor.name.contains("lora_A") {
                    #expect(plus == plain)
                } else {
                    // AdamW's first step is the rate in every element, and B begins at zero.
                    for (plus, plain) in zip(plus, plain) { #expect(abs(plus - 8 * plain) <= 1e-6 * abs(plus)) }
                }
            }
        }
    }

    @Test("Patterns decide ranks and alphas, as PEFT reads them")
    func patterns() throws {
        try withDirectory { directory in
            _ = try run(
                directory,
                ["--rank-pattern", "v_proj=2,layers.1.self_attn.q_proj=5", "--alpha-pattern", "k_proj=3.5"], steps: 1)
            let file = try AdapterFile.read(path: directory.path + "/x.lora")
            #expect(file.configuration.rankPattern == ["v_proj": 2, "layers.1.self_attn.q_proj": 5])
            #expect(file.configuration.alphaPattern == ["k_proj": 3.5])
            for (module, rank) in [
                ("0.self_attn.v_proj", 2), ("1.self_attn.v_proj", 2), ("0.self_attn.q_proj", 8),
                ("1.self_attn.q_proj", 5), ("0.self_attn.k_proj", 8),
            ] {
                let tensor = file.tensors.tensor(named: "base_model.model.model.layers.\(module).lora_A.weight")
                #expect(tensor?.shape.first == rank, "\(module)")
            }
            try refusal(
                TrainTests.arguments(directory.appending(path: "y.lora"), ["--rank-pattern", "w_proj=2"]),
                naming: ["--rank-pattern 'w_proj'", "model.layers.0.self_attn.q_proj"])
        }
    }

    @Test("--find-lr shows losses over rates, proposes one, and writes nothing")
    func findLearningRate() throws {
        try withDirectory { directory in
            let arguments = try TrainTests.arguments(directory.appending(path: "x.lora"), ["--find-lr"], steps: 60)
            let output = try lora(arguments)
            for part in ["learning rate      loss", "1.00e-06", " |", "+----", "--learning-rate "] {
                #expect(output.text.contains(part), "\(output.text)")
            }
            let found = try json(lora(arguments + ["--json", "--quiet"]))
            let points = try #require(found["points"]?.arrayValue)
            #expect(points.count > 20 && points.count <= 60)
            #expect(points[0]["learning_rate"]?.doubleValue == 1e-6)
            let rate = try #require(found["suggested_learning_rate"]?.doubleValue)
            #expect((1e-5...0.5).contains(rate))
            #expect(try #require(found["lowest_loss_learning_rate"]?.doubleValue) >= rate)
            #expect(try names(in: directory).isEmpty)
        }
    }
}
