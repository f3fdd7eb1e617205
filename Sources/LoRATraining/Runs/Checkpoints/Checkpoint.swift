internal import Glibc
public import LoRAFormats
public import OrderedCollections

/// All that a run needs to go on as if it had never stopped: a directory with the adapter and the optimizer's means in
/// f32, everything that happened, and a description.
///
/// Orders and random streams are functions of the seed and the step, and so are in it with the step's number.
struct Checkpoint {
    static let formatVersion = 1
    private static let manifestName = "checkpoint.json"
    private static let arraysName = "state.safetensors"
    private static let historyName = "history.jsonl"
    private static let largestManifest = 1 << 20

    let identity: RunIdentity
    /// Steps done.
    let step: Int
    /// Of the process that wrote it.
    let threads: Int
    let toolVersion: String
    private let directory: String
    private let arraysDigest: String
    private let historyDigest: String

    /// Writes a checkpoint into `directory`, which is empty.
    /// - Throws: `FormatError`.
    static func write(
        to directory: String, identity: RunIdentity, progress: RunProgress, arrays: CheckpointArrays, threads: Int,
        toolVersion: String
    ) throws {
        let arraysDigest = try arrays.write(to: "\(directory)/\(arraysName)")
        var history: [UInt8] = []
        for event in progress.events {
            history += event.json.serialized().utf8
            history.append(UInt8(ascii: "\n"))
        }
        try AtomicFile.write(history, to: "\(directory)/\(historyName)")
        var manifest: OrderedDictionary<String, JSONValue> = [
            "format_version": .integer(Int64(formatVersion)),
            "tool_version": .string(toolVersion),
            "step": .integer(Int64(progress.step)),
            "threads": .integer(Int64(threads)),
            "run": identity.json,
            "files": .object([
                arraysName: .string(arraysDigest),
                historyName: .string(history.withUnsafeBytes { Digest.hexadecimal(of: $0) }),
            ]),
        ]
        manifest["sha256"] = .string(digest(of: manifest))
        try AtomicFile.write(
            JSONValue.object(manifest).serialized(pretty: true) + "\n", to: "\(directory)/\(manifestName)")
    }

    /// Whether the directory at `path` is a checkpoint.
    static func exists(at path: String) -> Bool { access("\(path)/\(manifestName)", F_OK) == 0 }

    /// Reads the description of the checkpoint in `directory`.
    /// - Throws: `FormatError` when it is damaged, or of another version.
    init(directory: String) throws {
        let path = "\(directory)/\(Self.manifestName)"
        let text = try MappedFile.contents(path: path, limit: Self.largestManifest)
        let json = try FormatError.relocating(in: path) { try JSONValue(parsing: text) }
        if let version = json["format_version"]?.intValue, version != Self.formatVersion {
            throw FormatError(
                "format version \(version), but only \(Self.formatVersion) can be read; go on with the lora that wrote it",
                file: path)
        }
        guard var members = json.objectValue, let stated = members.removeValue(forKey: "sha256")?.stringValue,
            stated == Self.digest(of: members), let step = json["step"]?.intValue, step >= 0,
            let threads = json["threads"]?.intValue, let toolVersion = json["tool_version"]?.stringValue,
            let identity = json["run"].flatMap({ RunIdentity(json: $0) }),
            let arraysDigest = json["files"]?[Self.arraysName]?.stringValue,
            let historyDigest = json["files"]?[Self.historyName]?.stringValue
        else { throw FormatError("is damaged: it is not what a run wrote", file: path) }
        self.identity = identity
        self.step = step
        self.threads = threads
        self.toolVersion = toolVersion
        self.directory = directory
        self.arraysDigest = arraysDigest
        self.historyDigest = historyDigest
    }

    /// Fills `arrays`.
    /// - Returns: what happened up to the checkpoint.
    /// - Throws: `FormatError` when a file is damaged; the arrays are then of no use.
    func restore(_ arrays: (RunProgress) -> CheckpointArrays) throws -> RunProgress {
        let path = "\(directory)/\(Self.historyName)"
        let bytes = try step == 0 ? [] : MappedFile.contents(path: path)
        let progress = try FormatError.relocating(in: path) {
            guard bytes.withUnsafeBytes({ Digest.hexadecimal(of: $0) }) == historyDigest else {
                throw FormatError("is damaged: its SHA-256 is not the one of \(Self.manifestName)")
            }
            let events = try bytes.split(separator: UInt8(ascii: "\n")).map {
                try RunEvent(json: JSONValue(parsing: Array($0)))
            }
            return RunProgress(events)
        }
        guard progress.step == step else {
            throw FormatError("tells of \(progress.step) steps, expected \(step)", file: path)
        }
        try arrays(progress).read(from: "\(directory)/\(Self.arraysName)", digest: arraysDigest)
        return progress
    }

    private static func digest(of manifest: OrderedDictionary<String, JSONValue>) -> String {
        Array(JSONValue.object(manifest).serialized().utf8).withUnsafeBytes { Digest.hexadecimal(of: $0) }
    }
}

extension TrainingRun {
    /// What a checkpoint is: the one at `path`, or the latest of the directory there; nil when there is none.
    /// - Throws: `FormatError` when it is damaged.
    public static func checkpointFacts(at path: String) throws -> OrderedDictionary<String, JSONValue>? {
        let directory = Checkpoint.exists(at: path) ? path : CheckpointDirectory.latest(in: path)
        guard let directory else { return nil }
        let checkpoint = try Checkpoint(directory: directory)
        return [
            "kind": .string("checkpoint"),
            "path": .string(directory),
            "step": .integer(Int64(checkpoint.step)),
            "threads": .integer(Int64(checkpoint.threads)),
            "tool_version": .string(checkpoint.toolVersion),
            "sources": .object(checkpoint.identity.sources),
            "options": .object(checkpoint.identity.options),
        ]
    }
}
