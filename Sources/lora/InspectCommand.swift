import ArgumentParser
import Foundation
import LoRAFormats
import LoRAModel
import LoRATraining
import OrderedCollections

/// `lora inspect`: what a file is and what is in it.
struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect",
        abstract: "Tell what a base, an adapter, a checkpoint or a data set is.",
        discussion: """
            Example:
              lora inspect adapters/smart-home.lora
            """)

    @Argument(
        help: "A GGUF or .lora file, a PEFT directory, a JSONL file, or a directory of JSONL files or of checkpoints.")
    var file: String

    @Flag(help: "Print one JSON object.")
    var json = false

    @OptionGroup var common: CommonOptions

    func run() throws {
        Console.printFacts(try Inspection(path: file).facts, json: json)
    }
}

/// The facts about a file, in the order in which they are shown.
struct Inspection {
    let facts: OrderedDictionary<String, JSONValue>

    /// - Throws: `FormatError` when the file is none of those that lora knows, or is damaged.
    init(path: String) throws {
        var isDirectory: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else {
            throw FormatError("there is no such file", file: path)
        }
        if isDirectory.boolValue {
            if let checkpoint = try TrainingRun.checkpointFacts(at: path) {
                facts = checkpoint
                return
            }
            let isAdapter = FileManager.default.fileExists(atPath: path + "/adapter_config.json")
            facts = isAdapter ? try Self.adapter(path) : try Self.dataset(directory: path)
            return
        }
        let magic = try Self.head(path)
        if magic.starts(with: "GGUF".utf8) {
            let file = try GGUFFile(path: path)
            let isAdapter = file.metadata["general.type"]?.stringValue == "adapter"
            facts = isAdapter ? Self.adapter(file) : try Self.base(file)
        } else if magic.starts(with: "PK".utf8) {
            facts = try Self.adapter(path)
        } else if Self.beginsWithRow(magic) {
            facts = try Self.rows(path)
        } else {
            throw FormatError("neither a GGUF file, nor an adapter, nor a data set", file: path)
        }
    }

    private static func head(_ path: String) throws -> [UInt8] {
        let map = try MappedFile(path: path)
        return withExtendedLifetime(map) { Array(map.bytes.prefix(64)) }
    }

    /// Blank lines and a byte order mark may come before the first row.
    private static func beginsWithRow(_ head: [UInt8]) -> Bool {
        let blank: Set<UInt8> = [0x09, 0x0A, 0x0D, 0x20, 0xEF, 0xBB, 0xBF]
        return head.first { !blank.contains($0) } == UInt8(ascii: "{")
    }

    private static func base(_ file: GGUFFile) throws -> OrderedDictionary<String, JSONValue> {
        let bytes = file.tensors.reduce(0) { $0 + $1.byteCount }
        let types = Dictionary(grouping: file.tensors) { "\($0.type)" }.mapValues(\.count)
            .sorted { ($1.value, $0.key) < ($0.value, $1.key) }
        var facts: OrderedDictionary<String, JSONValue> = [
            "kind": .string("base"),
            "name": .string(file.metadata["general.name"]?.stringValue ?? "unnamed"),
            "architecture": .string(file.metadata["general.architecture"]?.stringValue ?? "unknown"),
            "parameters": .integer(Int64(file.tensors.reduce(0) { $0 + $1.count })),
            "bytes": .integer(Int64(bytes)),
            "tensors": .string(types.map { "\($0.value) \($0.key)" }.joined(separator: ", ")),
        ]
        if let configuration = try? ModelConfiguration(gguf: file) {
            facts["blocks"] = .integer(Int64(configuration.blockCount))
            facts["hidden_size"] = .integer(Int64(configuration.hiddenSize))
            facts["feed_forward_size"] = .integer(Int64(configuration.feedForwardSize))
            facts["heads"] = .integer(Int64(configuration.headCount))
            facts["key_value_heads"] = .integer(Int64(configuration.keyValueHeadCount))
            facts["head_size"] = .integer(Int64(configuration.headSize))
            facts["vocabulary"] = .integer(Int64(configuration.vocabularySize))
            facts["context"] = .integer(Int64(configuration.contextLength))
        }
        facts["chat_template"] = .bool(file.metadata["tokenizer.chat_template"] != nil)
        let merged = try MergeRecord(gguf: file).entries.map { "\($0.name):\($0.weight) (\($0.method))" }
        if !merged.isEmpty { facts["merged"] = .array(merged.map { .string($0) }) }
        facts["fingerprint"] = .string(BaseFingerprint.fingerprint(of: file))
        return facts
    }

    /// An adapter as llama.cpp takes it; what it was trained on and how is not in there.
    private static func adapter(_ file: GGUFFile) -> OrderedDictionary<String, JSONValue> {
        [
            "kind": .string("adapter"),
            "format": .string("gguf"),
            "architecture": .string(file.metadata["general.architecture"]?.stringValue ?? "unknown"),
            "alpha": file.metadata["adapter.lora.alpha"]?.floatValue.map { .number(Double($0)) } ?? .null,
            "tensors": .integer(Int64(file.tensors.count)),
            "parameters": .integer(Int64(file.tensors.reduce(0) { $0 + $1.count })),
        ]
    }

    private static func adapter(_ path: String) throws -> OrderedDictionary<String, JSONValue> {
        let file = try AdapterFile.read(path: path)
        return [
            "kind": .string("adapter"),
            "domain": .string(file.record.domain),
            "rank": .integer(Int64(file.configuration.rank)),
            "alpha": .number(file.configuration.alpha),
            "rslora": .bool(file.configuration.usesRankStabilization),
            "dora": .bool(file.configuration.decomposesWeights),
            "targets": .array(file.record.targets.map { .string($0) }),
            "parameters": .integer(Int64(file.tensors.tensors.reduce(0) { $0 + $1.shape.reduce(1, *) })),
            "precision": .string(file.tensors.tensors.first { $0.shape.count > 1 }?.type.rawValue ?? "none"),
            "base_fingerprint": file.record.baseFingerprint.map { .string($0) } ?? .null,
            "content": .string(file.contentDigest),
            "training": file.record.training,
        ]
    }

    private static func dataset(directory: String) throws -> OrderedDictionary<String, JSONValue> {
        var facts: OrderedDictionary<String, JSONValue> = ["kind": .string("data set")]
        for split in ["train", "valid", "test"] {
            let path = "\(directory)/\(split).jsonl"
            guard FileManager.default.fileExists(atPath: path) else { continue }
            facts[split] = .object(try rows(path))
        }
        guard facts.count > 1 else {
            throw FormatError("neither a data set (train.jsonl) nor an adapter (adapter_config.json)", file: directory)
        }
        return facts
    }

    private static func rows(_ path: String) throws -> OrderedDictionary<String, JSONValue> {
        let overview = try DatasetOverview(path: path)
        return [
            "kind": .string("data set"),
            "rows": .integer(Int64(overview.rows)),
            "bytes": .integer(Int64(overview.bytes)),
            "form": .string(overview.form.rawValue),
            "keys": .array(overview.keys.map { .string($0) }),
            "sha256": .string(overview.digest),
        ]
    }
}
