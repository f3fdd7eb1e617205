import Foundation
import LoRAFormats
import TestSupport
import Testing

@Suite("Checkpoints of lora train")
struct ResumeTests {
    private static let date = ["SOURCE_DATE_EPOCH": "1700000000"]

    /// Options under which everything that a checkpoint keeps matters.
    private static func arguments(_ output: URL, _ more: [String] = [], steps: Int) throws -> [String] {
        try TrainTests.arguments(
            output,
            [
                "--dropout", "0.1", "--weight-decay", "0.01", "--schedule", "cosine", "--eval-every", "7",
                "--lora-plus-ratio", "2", "--threads", "1", "--learning-rate", "5e-2",
            ] + more, steps: steps)
    }

    /// Runs until `signal` is sent when `moment` finds what it waits for in what is printed, or in the directory.
    private func run(
        _ arguments: [String], signal: Int32, moment: (_ printed: String) -> Bool
    ) throws -> Program.Output {
        var isSent = false
        return try Program.run(arguments, environment: Self.date) { child, printed in
            guard !isSent, moment(printed()) else { return }
            isSent = kill(child, signal) == 0
        }
    }

    private func steps(_ log: URL) throws -> [Int] {
        try log.bytes().split(separator: UInt8(ascii: "\n")).compactMap { line in
            let json = try JSONValue(parsing: Array(line))
            return json["valid_loss"] == nil ? json["step"]?.intValue : nil
        }
    }

    @Test("A run that was killed and one that was interrupted go on to the bytes of one that never stopped")
    func resume() throws {
        try withDirectory { directory in
            let (whole, cut) = (directory.appending(path: "a/x.lora"), directory.appending(path: "b/x.lora"))
            for file in [whole, cut] {
                try FileManager.default.createDirectory(
                    at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            }
            try lora(Self.arguments(whole, ["--quiet"], steps: 80), environment: Self.date)
            let log = directory.appending(path: "run.jsonl")
            let more = ["--save-every", "5", "--log", log.path]
            let checkpoints = cut.path + ".checkpoints"
            let killed = try run(Self.arguments(cut, more, steps: 80), signal: SIGKILL) { _ in
                (try? names(in: URL(filePath: checkpoints)).contains { $0.hasPrefix("step-") }) ?? false
            }
            #expect(killed.status == 128 + SIGKILL)
            #expect(!FileManager.default.fileExists(atPath: cut.path))

            let resumed = try Self.arguments(cut, more + ["--resume", checkpoints], steps: 80)
            let interrupted = try run(resumed, signal: SIGINT) { $0.contains("going on after step") }
            #expect(interrupted.status == 130, "\(interrupted.errors)")
            let last = try #require(interrupted.errorLines.last)
            #expect(last.contains("interrupted after step ") && last.hasSuffix("--resume \(checkpoints)"), "\(last)")
            #expect(try names(in: URL(filePath: checkpoints)).count { $0.hasPrefix("step-") } <= 2)

            try lora(resumed + ["--quiet"], environment: Self.date)
            #expect(try cut.bytes() == whole.bytes())
            #expect(try steps(log) == Array(1...80))
            #expect(
                try names(in: cut.deletingLastPathComponent()) == ["x.lora"], "a run that ended keeps no checkpoints")
        }
    }

    /// A directory of checkpoints of a run that was interrupted.
    private func interruptedRun(_ output: URL) throws -> String {
        let begun = try run(Self.arguments(output, steps: 100_000), signal: SIGINT) { $0.contains("step 1/") }
        #expect(begun.status == 130, "\(begun.errors)")
        return output.path + ".checkpoints"
    }

    @Test("A terminal that goes away leaves a checkpoint; under nohup the run goes on")
    func hangUp() throws {
        try withDirectory { directory in
            let output = directory.appending(path: "x.lora")
            let ended = try run(Self.arguments(output, steps: 100_000), signal: SIGHUP) { $0.contains("step 1/") }
            #expect(ended.status == 130, "\(ended.errors)")
            #expect(try names(in: URL(filePath: output.path + ".checkpoints")).contains { $0.hasPrefix("step-") })

            let other = directory.appending(path: "y.lora")
            signal(SIGHUP, SIG_IGN)
            defer { signal(SIGHUP, SIG_DFL) }
            var isSent = false
            let arguments = try Self.arguments(other, steps: 400)
            let finished = try Program.run(arguments, environment: Self.date) { child, printed in
                guard !isSent, printed().contains("step 1/") else { return }
                isSent = kill(child, SIGHUP) == 0 && !printed().contains("step 400/")
            }
            #expect(isSent && finished.status == 0, "\(finished.errors)")
        }
    }

    @Test("A checkpoint of another run is refused, with everything that differs in one line")
    func otherRun() throws {
        try withDirectory { directory in
            let output = directory.appending(path: "x.lora")
            let checkpoints = try interruptedRun(output)
            let facts = try json(lora(["inspect", checkpoints, "--json"]))
            #expect(facts["kind"]?.stringValue == "checkpoint")
            #expect(facts["options"]?["learning-rate"]?.doubleValue == 0.05)
            #expect(try #require(facts["step"]?.intValue) >= 1)
            let resume = try Self.arguments(output, ["--resume", checkpoints], steps: 100_000)
            try refusal(
                resume + ["--rank", "4", "--seed", "3", "--learning-rate", "1e-3"],
                naming: ["--rank 4 (there 8)", "--seed 3 (there 0)", "--learning-rate 0.001 (there 0.05)"])
            let data = directory.appending(path: "data")
            try FileManager.default.createDirectory(at: data, withIntermediateDirectories: true)
            try data.appending(path: "train.jsonl").write(Fixtures.rows(0..<23))
            try data.appending(path: "valid.jsonl").write(Fixtures.rows(24..<28))
            try refusal(
                resume + ["--base", Fixtures.otherBase(), "--data", data.path], naming: ["other base, other data;"])
            #expect(try names(in: URL(filePath: checkpoints)).count == 1, "the checkpoint is still there")
        }
    }

    @Test("Checkpoints of an unfinished run are not overwritten, and two runs do not share a directory")
    func protected() throws {
        try withDirectory { directory in
            let output = directory.appending(path: "x.lora")
            let checkpoints = try interruptedRun(output)
            let again = try Self.arguments(output, steps: 4)
            try refusal(again, naming: ["x.lora.checkpoints", "did not end", "--resume \(checkpoints)"])
            try refusal(
                again + ["--resume", directory.path + "/none"], naming: ["/none", "no directory of checkpoints"])
            var second: Program.Output?
            let other = directory.path + "/shared"
            let first = try run(
                Self.arguments(output, ["--checkpoints", other], steps: 100_000), signal: SIGINT
            ) { printed in
                guard printed.contains("step 1/") else { return false }
                second = try? refusal(again + ["--checkpoints", other], naming: ["/shared", "another run"])
                return true
            }
            #expect(first.status == 130)
            #expect(second?.status == 1)
        }
    }

    @Test("A damaged checkpoint is passed over for the one before it; without one it is refused")
    func damaged() throws {
        try withDirectory { directory in
            let output = directory.appending(path: "x.lora")
            let whole = directory.appending(path: "whole.lora")
            try lora(Self.arguments(whole, ["--quiet"], steps: 40), environment: Self.date)
            let checkpoints = URL(filePath: output.path + ".checkpoints")
            let arguments = try Self.arguments(output, ["--save-every", "1"], steps: 40)
            _ = try run(arguments, signal: SIGKILL) { _ in
                (try? names(in: checkpoints).count { $0.hasPrefix("step-") } == 2) ?? false
            }
            let kept = try names(in: checkpoints).compactMap { $0.hasPrefix("step-") ? Int($0.dropFirst(5)) : nil }
            #expect(kept.count == 2 || kept.count == 3)
            let newest = checkpoints.appending(path: "step-\(try #require(kept.max()))")
            let state = newest.appending(path: "state.safetensors")
            var bytes = try state.bytes()
            bytes[bytes.count - 5] ^= 1
            try state.write(bytes)
            let copy = directory.appending(path: "copy")
            try FileManager.default.createDirectory(at: copy, withIntermediateDirectories: true)
            try FileManager.default.copyItem(at: newest, to: copy.appending(path: newest.lastPathComponent))

            let resumed = try lora(arguments + ["--resume", checkpoints.path], environment: Self.date)
            #expect(resumed.errors.contains("is damaged") && resumed.errors.contains("the checkpoint before it"))
            #expect(
                try AdapterFile.read(path: output.path).tensorDigest == AdapterFile.read(path: whole.path).tensorDigest)
            try refusal(arguments + ["--resume", copy.path], naming: ["state.safetensors", "is damaged", "SHA-256"])
        }
    }

    @Test("A second Ctrl-C ends at once, without a checkpoint")
    func secondInterruption() throws {
        try withDirectory { directory in
            let output = directory.appending(path: "x.lora")
            var isSent = false
            let ended = try Program.run(TrainTests.arguments(output, steps: 100_000)) { child, printed in
                guard !isSent, printed().contains("step 1/") else { return }
                // While it is stopped it cannot write what the first one asks for.
                isSent = [SIGSTOP, SIGINT, SIGTERM, SIGCONT].allSatisfy { kill(child, $0) == 0 }
            }
            #expect([128 + SIGINT, 128 + SIGTERM].contains(ended.status), "\(ended.errors)")
            #expect(!ended.errors.contains("interrupted after"), "\(ended.errors)")
        }
    }

    @Test("Ctrl-C is heard during a validation")
    func interruptedValidation() throws {
        try withDirectory { directory in
            let output = directory.appending(path: "x.lora")
            // Validation after every step: the signal arrives in one, or right before.
            let arguments = try TrainTests.arguments(output, ["--eval-every", "1"], steps: 100_000)
            let ended = try run(arguments, signal: SIGINT) { $0.contains("validation loss") }
            #expect(ended.status == 130)
            let resumed = try run(arguments + ["--resume", output.path + ".checkpoints"], signal: SIGTERM) {
                $0.contains("going on after step")
            }
            #expect(resumed.status == 130, "\(resumed.errors)")
        }
    }
}
