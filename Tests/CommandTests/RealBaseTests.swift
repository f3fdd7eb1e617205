import Foundation
import LoRAFormats
import Testing

/// What only the real base can show; few, for each run takes seconds.
@Suite("The real base")
struct RealBaseTests {
    private func arguments(_ output: URL, steps: Int) -> [String] {
        [
            "train", "--base", Fixtures.realBase, "--data", Fixtures.smartHome, "--output", output.path, "--steps",
            "\(steps)", "--batch-size", "16",
        ]
    }

    /// Writes the first rows of smart-home, and none to validate with.
    private func firstRows(_ count: Int, to file: URL) throws {
        let rows = try URL(filePath: Fixtures.smartHome + "/train.jsonl").bytes().split(separator: 0x0A).prefix(count)
        try file.write(Array(rows.joined(separator: [0x0A])))
    }

    @Test("A greedy answer knows the capital of France, in less than 400 MiB")
    func capital() throws {
        let output = try lora([
            "generate", "--base", Fixtures.realBase, "--prompt", "What is the capital of France?", "--max-tokens", "16",
            "--quiet",
        ])
        #expect(output.text.contains("Paris"), "\(output.text)")
        #expect(output.peakBytes < 400 << 20, "\(output.peakBytes >> 20) MiB")
        #expect(output.peakBytes > 32 << 20, "the peak was not measured")
    }

    @Test("Training takes less than 1.5 GiB and leaves the base as it was")
    func training() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "x.lora")
            let data = directory.appending(path: "rows.jsonl")
            try firstRows(64, to: data)
            let before = try digest(Fixtures.realBase)
            let output = try lora([
                "train", "--base", Fixtures.realBase, "--data", data.path, "--output", file.path, "--steps", "2",
                "--batch-size", "16", "--json", "--quiet",
            ])
            #expect(try digest(Fixtures.realBase) == before)
            #expect(output.peakBytes < 3 << 29, "\(output.peakBytes >> 20) MiB")
            let told = try #require(json(output)["peak_rss_bytes"]?.intValue)
            #expect(told < 3 << 29 && told > 100 << 20)
            #expect(try file.bytes().count < 2_000_000)
        }
    }

    private func digest(_ path: String) throws -> String {
        let map = try MappedFile(path: path)
        return withExtendedLifetime(map) { Digest.hexadecimal(of: map.bytes) }
    }

    @Test(
        "Ctrl-C in the middle of training: 130, no adapter, a checkpoint, the old adapter as it was",
        arguments: [true, false])
    func interrupted(_ hasOld: Bool) throws {
        try withDirectory { directory in
            let file = directory.appending(path: "x.lora")
            let old = Array("the old adapter".utf8)
            if hasOld { try file.write(old) }
            var isSent = false
            let output = try Program.run(arguments(file, steps: 10_000)) { child, printed in
                guard !isSent, printed().contains("step 1/") else { return }
                isSent = kill(child, SIGINT) == 0
            }
            #expect(isSent)
            #expect(output.status == 130)
            #expect(output.bytes.isEmpty)
            #expect(
                output.errorLines.last?.contains("no adapter was written; go on with: ") ?? false, "\(output.errors)")
            #expect(try names(in: directory) == (hasOld ? ["x.lora"] : []) + ["x.lora.checkpoints"])
            if hasOld { #expect(try file.bytes() == old) }
        }
    }

    @Test("Ctrl-C while an answer is written: 130, what is there is printed")
    func interruptedAnswer() throws {
        var isSent = false
        let output = try Program.run([
            "generate", "--base", Fixtures.realBase, "--prompt", "Once upon a time", "--raw", "--max-tokens", "7000",
        ]) { child, printed in
            guard !isSent, !printed().isEmpty else { return }
            isSent = kill(child, SIGINT) == 0
        }
        #expect(isSent)
        #expect(output.status == 130, "\(output.errors)")
        #expect(!output.bytes.isEmpty)
    }

    @Test("JSON says that an answer was interrupted, which is neither complete nor as long as allowed")
    func interruptedJSON() throws {
        var isSent = false
        let output = try Program.run([
            "generate", "--base", Fixtures.realBase, "--prompt", "Once upon a time", "--raw", "--max-tokens", "7000",
            "--json",
        ]) { child, _ in
            guard !isSent, Program.handles(SIGINT, child) else { return }
            isSent = kill(child, SIGINT) == 0
        }
        #expect(isSent)
        #expect(output.status == 130, "\(output.errors)")
        #expect(try json(output)["finish_reason"]?.stringValue == "interrupted")
    }
}
