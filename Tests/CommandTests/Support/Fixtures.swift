import Foundation
import LoRAFormats
import OrderedCollections
import TestSupport

/// Bases, data and adapters that commands are run on. All of them are made once for a test process.
enum Fixtures {
    static let package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()

    /// The real base, SmolLM2-135M in Q4_1.
    static let realBase = package.appending(path: "models/base.bin").path
    static let smartHome = package.appending(path: "datasets/smart-home").path

    /// Lives as long as the process.
    static let directory: URL = {
        let directory = FileManager.default.temporaryDirectory.appending(path: "lora-fixtures-\(UUID().uuidString)")
        try? FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        atexit { try? FileManager.default.removeItem(at: Fixtures.directory) }
        return directory
    }()

    private static let made = Result {
        try TinyBase(seed: 1).write(to: directory.appending(path: "tiny.bin").path)
        try TinyBase(seed: 2).write(to: directory.appending(path: "other.bin").path)
        let data = directory.appending(path: "animals")
        try FileManager.default.createDirectory(at: data, withIntermediateDirectories: true)
        try data.appending(path: "train.jsonl").write(rows(0..<24))
        try data.appending(path: "valid.jsonl").write(rows(24..<28))
        try data.appending(path: "test.jsonl").write(rows(28..<34))
    }

    private static func path(_ name: String) throws -> String {
        try made.get()
        return directory.appending(path: name).path
    }

    /// A base of two blocks with random weights.
    static func tinyBase() throws -> String { try path("tiny.bin") }
    /// As `tinyBase`, with other weights.
    static func otherBase() throws -> String { try path("other.bin") }
    /// 24 rows to train on, 4 to validate and 6 to test with.
    static func animals() throws -> String { try path("animals") }

    /// Rows of the kind of `animals`.
    static func rows(_ numbers: Range<Int>) -> String {
        let animals = ["cat", "dog", "cow", "owl", "fox", "hen", "bee"]
        return numbers.map { number in
            let animal = animals[number % animals.count]
            return row(question: "\(number) x \(animal)?", answer: "\(number) \(animal)s") + "\n"
        }.joined()
    }

    static func row(question: String, answer: String) -> String {
        let message = { (role: String, content: String) -> JSONValue in
            .object(["role": .string(role), "content": .string(content)])
        }
        return JSONValue.object(["messages": .array([message("user", question), message("assistant", answer)])])
            .serialized()
    }

    /// An adapter that a few steps on the tiny base gave.
    static func trainedAdapter() throws -> String { try trained.get() }

    private static let trained = Result {
        let output = directory.appending(path: "trained.lora").path
        let arguments = [
            "train", "--base", try tinyBase(), "--data", try animals(), "--output", output, "--steps", "30",
            "--learning-rate", "2e-2", "--quiet",
        ]
        let run = try Program.run(arguments)
        guard run.status == 0 else { throw Program.Failure(description: run.errors) }
        return output
    }

    /// The parts of the trained adapter's file.
    static func trainedParts() throws -> AdapterFile { try AdapterFile.read(path: trainedAdapter()) }

    /// An adapter in the place of `file` with other values; `change` gets each tensor's name and values.
    static func write(
        _ file: AdapterFile, to path: String, type: SafetensorsType = .f32,
        change: (_ name: String, _ values: inout [Float]) -> Void
    ) throws {
        let tensors = try file.tensors.tensors.map { tensor in
            var values = try file.tensors.floats(of: tensor)
            change(tensor.name, &values)
            return try NamedTensor(name: tensor.name, type: type, shape: tensor.shape, elements: values)
        }
        try AdapterFile(configuration: file.configuration, record: file.record, tensors: tensors).write(path: path)
    }
}
