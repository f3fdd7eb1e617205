import Foundation
import LoRAFormats
import TestSupport
import Testing

@Suite("lora train")
struct TrainTests {
    /// The arguments of a short run on the tiny base.
    static func arguments(_ output: URL, _ more: [String] = [], steps: Int = 4) throws -> [String] {
        [
            "train", "--base", try Fixtures.tinyBase(), "--data", try Fixtures.animals(), "--output", output.path,
            "--steps", "\(steps)", "--learning-rate", "1e-2", "--batch-size", "6",
        ] + more
    }

    /// The losses of a short run.
    private func losses(_ more: [String], steps: Int = 4) throws -> [Double] {
        try withDirectory { directory in
            let output = try lora(
                Self.arguments(directory.appending(path: "x.lora"), more + ["--json", "--quiet"], steps: steps))
            return try json(output)["losses"]?.arrayValue?.compactMap(\.doubleValue) ?? []
        }
    }

    @Test("One seed gives one file, another seed another", arguments: ["auto", "f32"])
    func reproducible(_ compute: String) throws {
        try withDirectory { directory in
            let file = directory.appending(path: "x.lora")
            let more = ["--compute", compute, "--dropout", "0.1", "--quiet"]
            var files: [[UInt8]] = []
            for seed in ["7", "7", "8"] {
                try lora(
                    Self.arguments(file, more + ["--seed", seed]), environment: ["SOURCE_DATE_EPOCH": "1700000000"])
                files.append(try file.bytes())
            }
            #expect(files[0] == files[1])
            #expect(files[0] != files[2])
        }
    }

    @Test("--json prints one object with the agreed keys, and the loss falls")
    func summary() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "x.lora")
            let output = try lora(Self.arguments(file, ["--json", "--quiet"], steps: 40))
            let summary = try json(output)
            #expect(
                keys(summary) == [
                    "adapter", "steps", "tokens", "supervised_tokens", "seconds", "tokens_per_second",
                    "peak_rss_bytes", "first_loss", "last_loss", "best_valid_loss", "losses",
                ])
            #expect(output.errors.isEmpty, "--quiet prints no progress: \(output.errors)")
            let losses = try #require(summary["losses"]?.arrayValue).compactMap(\.doubleValue)
            #expect(losses.count == 40 && summary["steps"]?.intValue == 40)
            #expect(summary["adapter"]?.stringValue == file.path)
            #expect(summary["first_loss"]?.doubleValue == losses.first)
            #expect(summary["last_loss"]?.doubleValue == losses.last)
            #expect(try #require(losses.last) < 0.8 * losses[0], "\(losses)")
            #expect(try #require(summary["best_valid_loss"]?.doubleValue) < losses[0])
            #expect(try #require(summary["peak_rss_bytes"]?.intValue) > 1 << 20)
            let tokens = try #require(summary["tokens"]?.intValue)
            #expect(try #require(summary["supervised_tokens"]?.intValue) < tokens)
        }
    }

    @Test("Without --quiet there is progress, and the result's line")
    func progress() throws {
        try withDirectory { directory in
            let output = try lora(Self.arguments(directory.appending(path: "x.lora")))
            #expect(output.errors.contains("step 4/4  loss "))
            #expect(output.errors.contains("tokens/s"))
            #expect(output.errors.contains(" left\n"))
            #expect(output.text.contains("x.lora: ") && output.text.contains("4 steps in"))
        }
    }

    @Test("The base is as before, and nothing but the adapter is left beside it")
    func leavesNothingElse() throws {
        try withDirectory { directory in
            let base = directory.appending(path: "base.bin")
            try TinyBase(seed: 3).write(to: base.path)
            let before = try base.bytes()
            let file = directory.appending(path: "out/x.lora")
            try FileManager.default.createDirectory(
                at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try file.write("an older file")
            try lora([
                "train", "--base", base.path, "--data", Fixtures.animals(), "--output", file.path, "--steps", "2",
                "--quiet",
            ])
            #expect(try base.bytes() == before)
            #expect(try names(in: file.deletingLastPathComponent()) == ["x.lora"])
            #expect(try names(in: directory) == ["base.bin", "base.bin.fingerprint", "out"])
            #expect(try file.bytes().starts(with: "PK".utf8))
        }
    }

    @Test("The default output is adapters/<name of the data>.lora")
    func defaultOutput() throws {
        try withDirectory { directory in
            let data = try Fixtures.animals()
            let arguments = ["train", "--base", try Fixtures.tinyBase(), "--data", data, "--steps", "1"]
            try refusal(arguments, directory: directory, naming: ["adapters/animals.lora", "adapters"])
            try FileManager.default.createDirectory(
                at: directory.appending(path: "adapters"), withIntermediateDirectories: false)
            try lora(arguments + ["--quiet"], directory: directory)
            #expect(try names(in: directory.appending(path: "adapters")) == ["animals.lora"])
        }
    }

    @Test("unzip takes the file, and PEFT's configuration is in it")
    func archive() throws {
        let path = try Fixtures.trainedAdapter()
        try lora([path], script: "exec unzip -tq \"$1\"")
        let archive = try ZipArchive(path: path)
        #expect(
            archive.entries.map(\.name) == ["adapter_config.json", "adapter_model.safetensors", "lora.json"])
        let entry = try #require(archive.entry(named: "adapter_config.json"))
        let configuration = try JSONValue(parsing: archive.read(entry, limit: 1 << 20).array)
        #expect(configuration["peft_type"]?.stringValue == "LORA")
        #expect(configuration["task_type"]?.stringValue == "CAUSAL_LM")
        #expect(configuration["r"]?.intValue == 8)
        #expect(configuration["lora_alpha"]?.doubleValue == 16)
        #expect(configuration["bias"]?.stringValue == "none")
        #expect(configuration["use_rslora"]?.boolValue == false)
        #expect(configuration["use_dora"]?.boolValue == false)
        #expect(configuration["fan_in_fan_out"]?.boolValue == false)
        #expect(configuration["inference_mode"]?.boolValue == true)
        #expect(configuration["lora_dropout"]?.doubleValue == 0)
        #expect(
            configuration["target_modules"]?.arrayValue?.compactMap(\.stringValue) == [
                "q_proj", "k_proj", "v_proj", "o_proj",
            ])
        #expect(configuration["base_model_name_or_path"]?.stringValue == "Tiny")
    }

    @Test("--dora trains an adapter that says so, is measured, merged and exported as peft alone")
    func dora() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "x.lora")
            let base = try Fixtures.tinyBase()
            try lora(Self.arguments(file, ["--dora", "--quiet"]))
            let facts = try json(lora(["inspect", file.path, "--json"]))
            #expect(facts["dora"]?.boolValue == true)
            #expect(facts["precision"]?.stringValue == "BF16")
            #expect(facts["training"]?["options"]?["dora"]?.boolValue == true)
            let adapter = try AdapterFile.read(path: file.path)
            #expect(adapter.configuration.decomposesWeights)
            #expect(
                adapter.tensors.tensors.count { $0.name.hasSuffix(".lora_magnitude_vector") && $0.type == .f32 } == 8)
            try lora([
                "merge", file.path, "--into", base, "--output", directory.appending(path: "m.bin").path, "--type",
                "f32",
            ])
            for format in ["gguf", "mlx"] {
                let output = directory.appending(path: "out").path
                try refusal(
                    ["export", file.path, "--base", base, "--format", format, "--output", output],
                    naming: ["x.lora", "use_dora", "peft"])
            }
            let peft = directory.appending(path: "peft").path
            try lora(["export", file.path, "--base", base, "--format", "peft", "--output", peft])
            try lora(["eval", "--base", base, "--adapter", peft, "--data", try Fixtures.animals(), "--split", "train"])
        }
    }

    @Test("Checkpointing changes no bit")
    func checkpointing() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "x.lora")
            var tensors: [String] = []
            for choice in ["on", "off"] {
                try lora(
                    Self.arguments(
                        file, ["--checkpointing", choice, "--dropout", "0.2", "--target", "all-linear", "--quiet"]))
                tensors.append(try AdapterFile.read(path: file.path).tensorDigest)
            }
            #expect(tensors[0] == tensors[1])
        }
    }

    @Test(
        "Each option that decides what is learned changes the losses",
        arguments: [
            ["--rank", "2"], ["--alpha", "64"], ["--rslora"], ["--dora"], ["--target", "all-linear"],
            ["--target", "v_proj"],
            ["--layers", "1-1"], ["--dropout", "0.5"], ["--no-shuffle"], ["--batch-size", "3"],
            ["--schedule", "constant"], ["--schedule", "cosine"], ["--warmup", "0.9"], ["--max-grad-norm", "0.01"],
            ["--learning-rate", "2e-2"], ["--weight-decay", "10"], ["--seed", "5"],
        ])
    func options(_ more: [String]) throws {
        // The norm is clipped as soon as it is above 1, so that limits on it are felt.
        let (plain, changed) = (try losses(["--compute", "f32"]), try losses(["--compute", "f32"] + more))
        #expect(plain.count == 4 && changed.count == 4)
        #expect(plain != changed)
        #expect(changed.allSatisfy { $0.isFinite })
    }

    @Test("Options that only spend time or memory leave the losses near")
    func neutralOptions() throws {
        let plain = try losses(["--compute", "f32"])
        for more in [["--threads", "1"], ["--threads", "3"], ["--max-memory", "1GiB"], ["--schedule", "linear"]] {
            let changed = try losses(["--compute", "f32"] + more)
            for (first, second) in zip(plain, changed) { #expect(abs(first - second) < 1e-3 * first, "\(more)") }
        }
    }

    @Test("Epochs and batches make the steps")
    func steps() throws {
        try withDirectory { directory in
            for (epochs, batch, steps) in [("1", "24", 1), ("2", "10", 6), ("3", "7", 12)] {
                let output = try lora([
                    "train", "--base", Fixtures.tinyBase(), "--data", Fixtures.animals(), "--output",
                    directory.path + "/x.lora", "--epochs", epochs, "--batch-size", batch, "--json", "--quiet",
                ])
                #expect(try json(output)["steps"]?.intValue == steps)
            }
        }
    }

    @Test("--precision is the type in the file", arguments: [("bf16", "BF16"), ("f16", "F16"), ("f32", "F32")])
    func precision(_ option: String, _ type: String) throws {
        try withDirectory { directory in
            let file = directory.appending(path: "x.lora")
            try lora(Self.arguments(file, ["--precision", option, "--quiet"], steps: 1))
            let tensors = try AdapterFile.read(path: file.path).tensors.tensors
            #expect(tensors.count == 16)
            #expect(tensors.allSatisfy { $0.type.rawValue == type })
        }
    }

    @Test("Targets and layers decide which tensors the file has")
    func targets() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "x.lora")
            for (more, count) in [
                (["--target", "all-linear"], 28), (["--target", "down_proj,q_proj"], 8), (["--layers", "1"], 8),
                (["--target", "k_proj", "--layers", "0-0"], 2),
            ] {
                try lora(Self.arguments(file, more + ["--quiet"], steps: 1))
                #expect(try AdapterFile.read(path: file.path).tensors.tensors.count == count, "\(more)")
            }
            try refusal(
                Self.arguments(file, ["--layers", "1-2"]), naming: ["--layers 1-2", "blocks 0 to 1"])
        }
    }

    @Test("--init-adapter goes on where the adapter is, with its rank and targets")
    func initialAdapter() throws {
        try withDirectory { directory in
            let (first, second) = (directory.appending(path: "1.lora"), directory.appending(path: "2.lora"))
            let begun = try json(
                lora(
                    Self.arguments(
                        first, ["--rank", "3", "--alpha", "6", "--target", "v_proj", "--json", "--quiet"], steps: 30)))
            let more = ["--init-adapter", first.path, "--json", "--quiet"]
            let continued = try json(lora(Self.arguments(second, more)))
            #expect(
                try #require(continued["first_loss"]?.doubleValue) < 0.9 * #require(begun["first_loss"]?.doubleValue))
            let file = try AdapterFile.read(path: second.path)
            #expect(file.configuration.rank == 3 && file.configuration.alpha == 6)
            #expect(file.record.targets == ["v_proj"])
        }
    }

    @Test("A learning rate of almost nothing leaves B at zero, which is the base exactly")
    func nothingLearned() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "x.lora")
            try lora(Self.arguments(file, ["--learning-rate", "1e-44", "--precision", "f32", "--quiet"]))
            let rows = try json(
                lora([
                    "eval", "--base", Fixtures.tinyBase(), "--adapter", file.path, "--data", Fixtures.animals(),
                    "--json", "--quiet",
                ]))["results"]?.arrayValue
            let losses = try #require(rows).map { $0["loss"]?.doubleValue }
            #expect(losses.count == 2 && losses[0] != nil && losses[0] == losses[1])
        }
    }

    @Test("Divergence is said in one line and writes nothing")
    func divergence() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "x.lora")
            try refusal(
                Self.arguments(file, ["--learning-rate", "1e30", "--warmup", "0"], steps: 8),
                naming: ["diverged at step", "--learning-rate"])
            #expect(try names(in: directory).isEmpty)
        }
    }

    @Test("--dry-run shows the data and writes nothing")
    func dryRun() throws {
        try withDirectory { directory in
            let output = try lora(Self.arguments(directory.appending(path: "x.lora"), ["--dry-run"]))
            for part in ["24 examples, 0 skipped", "supervised", "4 of 6 examples", "memory", "line 1: ", "line 3: "] {
                #expect(output.text.contains(part), "\(output.text)")
            }
            #expect(output.text.contains("assistant\n[[0 cats<|im_end|>"), "\(output.text)")
            #expect(try names(in: directory).isEmpty)
        }
    }

    @Test("Memory that cannot do is refused with a way out")
    func memory() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "x.lora")
            for more in [[], ["--dry-run"], ["--find-lr"]] {
                try refusal(
                    Self.arguments(file, ["--max-memory", "1KiB"] + more),
                    naming: ["MiB", "--max-memory allows 1024 bytes"])
            }
            #expect(try names(in: directory).isEmpty)
        }
    }
}
