import Foundation
import LoRAFormats
import LoRAModel
import TestSupport
import Testing

@testable import LoRATraining

@Suite("A training run")
struct TrainingRunTests {
    /// Does something after a step.
    private final class Intruder: RunRecorder {
        private let step: Int
        private let act: () throws -> Void

        init(afterStep step: Int, _ act: @escaping () throws -> Void) {
            self.step = step
            self.act = act
        }

        func record(_ event: RunEvent) throws {
            if case .step(let record) = event, record.report.step == step { try act() }
        }
    }

    /// Fails at the end of a run, as a report on a full disk does, or notes that the end came.
    private final class Reporter: RunRecorder {
        private let fails: Bool
        private(set) var summary: TrainingSummary?

        init(fails: Bool) { self.fails = fails }

        func record(_ event: RunEvent) {}

        func finish(_ summary: TrainingSummary) throws {
            if fails { throw FormatError("cannot write: No space left on device", file: "report.html") }
            self.summary = summary
        }
    }

    /// A run of six steps with a validation after every second.
    private func options(_ directory: URL, output: String) throws -> TrainingOptions {
        let base = directory.appending(path: "base.bin").path
        if !FileManager.default.fileExists(atPath: base) { try TinyBase(seed: 1).write(to: base) }
        let data = directory.appending(path: "rows.jsonl")
        let rows = (0..<10).map { "{\"prompt\":\"\($0) x owl?\",\"completion\":\"\($0) owls\"}\n" }
        try Data(rows.joined().utf8).write(to: data)
        let file = directory.appending(path: output)
        try FileManager.default.createDirectory(
            at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        var options = TrainingOptions(basePath: base, dataPath: data.path, outputPath: file.path)
        (options.length, options.batchSize, options.learningRate) = (.steps(6), 2, 5e-2)
        (options.holdOut, options.evaluationInterval, options.dropout) = (.count(2), 2, 0.1)
        options.checkpointsPath = directory.appending(path: "kept").path
        return options
    }

    @discardableResult
    private func run(_ options: TrainingOptions, _ recorders: [any RunRecorder] = []) throws -> TrainingOutcome {
        let pool = ThreadPool(count: 1)
        defer { pool.shutdown() }
        return try TrainingRun(TrainingSetup(options), pool: pool, toolVersion: "test")
            .run(recorders: recorders) { false }
    }

    private func tensors(_ options: TrainingOptions) throws -> String {
        try AdapterFile.read(path: options.outputPath).tensorDigest
    }

    @Test(
        "A log or an adapter that cannot be written does not cost the steps done: the run goes on to the same adapter",
        arguments: [3, 6])
    func unwritable(step: Int) throws {
        let lock = VariantLock.shared()
        defer { lock.release() }
        try TestFiles.withTemporaryDirectory { directory in
            let whole = try options(directory, output: "whole/x.lora")
            try run(whole)
            var cut = try options(directory, output: "cut/x.lora")
            let intruder = Intruder(afterStep: step) {
                guard step == 6 else { throw FormatError("cannot write: No space left on device", file: "run.jsonl") }
                try FileManager.default.removeItem(at: directory.appending(path: "cut"))
            }
            let error = #expect(throws: FormatError.self) { try run(cut, [intruder]) }
            let message = error?.description ?? ""
            #expect(message.hasPrefix(step == 3 ? "run.jsonl: cannot write: No space left" : cut.outputPath))
            let advice = "; a checkpoint of step \(step) was written: go on with --resume \(directory.path)/kept"
            #expect(message.hasSuffix(advice), "\(message)")

            cut = try options(directory, output: "cut/x.lora")
            cut.resumes = true
            try run(cut)
            #expect(try tensors(cut) == tensors(whole))
            #expect(!FileManager.default.fileExists(atPath: directory.path + "/kept"))
        }
    }

    @Test("A report that cannot be written is written by going on, of the same adapter")
    func unwritableReport() throws {
        let lock = VariantLock.shared()
        defer { lock.release() }
        try TestFiles.withTemporaryDirectory { directory in
            var options = try options(directory, output: "x.lora")
            let error = #expect(throws: FormatError.self) { try run(options, [Reporter(fails: true)]) }
            let message = error?.description ?? ""
            let advice = "; a checkpoint of step 6 was written: go on with --resume \(directory.path)/kept"
            #expect(message.hasPrefix("report.html: cannot write") && message.hasSuffix(advice), "\(message)")
            let adapter = try tensors(options)

            options.resumes = true
            let reporter = Reporter(fails: false)
            try run(options, [reporter])
            #expect(reporter.summary?.losses.count == 6)
            #expect(try tensors(options) == adapter)
            #expect(!FileManager.default.fileExists(atPath: directory.path + "/kept"))
        }
    }
}
