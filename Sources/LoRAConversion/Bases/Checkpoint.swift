import Foundation
import LoRAFormats
import OrderedCollections

/// The tensors of a Hugging Face directory: model.safetensors, or shards with model.safetensors.index.json.
struct Checkpoint {
    private let shards: [SafetensorsFile]
    private let places: [String: (shard: Int, tensor: SafetensorsFile.Tensor)]
    /// Of all tensors.
    let names: [String]

    private static let single = "model.safetensors"
    private static let index = "model.safetensors.index.json"
    /// More files than any model has.
    private static let maximumShards = 4096

    /// Maps the files and checks that they hold what the index says.
    /// - Throws: `FormatError` that lists everything that is missing or at another place.
    init(directory: String) throws {
        let exists = { (name: String) in FileManager.default.fileExists(atPath: "\(directory)/\(name)") }
        if exists(Self.single) {
            let shard = try SafetensorsFile(path: "\(directory)/\(Self.single)")
            self.init([shard])
        } else if exists(Self.index) {
            try self.init(index: "\(directory)/\(Self.index)", in: directory)
        } else {
            throw FormatError(
                "neither \(Self.single) nor \(Self.index); save the model with safe_serialization", file: directory)
        }
    }

    private init(_ shards: [SafetensorsFile]) {
        self.shards = shards
        var places: [String: (shard: Int, tensor: SafetensorsFile.Tensor)] = [:]
        for (index, shard) in shards.enumerated() {
            for tensor in shard.tensors { places[tensor.name] = (index, tensor) }
        }
        self.places = places
        names = shards.flatMap { $0.tensors.map(\.name) }
    }

    private init(index path: String, in directory: String) throws {
        let bytes = try MappedFile.contents(path: path, limit: 256 << 20)
        let files = try FormatError.relocating(in: path) { try Self.files(JSONValue(parsing: bytes)) }
        let fileNames = Set(files.values).sorted()
        let shards = try fileNames.map { try SafetensorsFile(path: "\(directory)/\($0)") }
        var problems: [String] = []
        for (name, file) in zip(fileNames, shards) {
            for tensor in file.tensors where files[tensor.name] != name {
                problems.append("\(name) holds \(FormatError.quoted(tensor.name)), which the index does not put there")
            }
        }
        let held = Dictionary(uniqueKeysWithValues: zip(fileNames, shards))
        for (tensor, name) in files.sorted(by: { $0.key < $1.key }) where held[name]?.tensor(named: tensor) == nil {
            problems.append("\(FormatError.quoted(tensor)) is not in \(name)")
        }
        guard problems.isEmpty else { throw FormatError(Self.summary(problems), file: path) }
        self.init(shards)
    }

    /// The file of each tensor, from an index.
    private static func files(_ json: JSONValue) throws -> [String: String] {
        guard let map = json["weight_map"]?.objectValue else { throw FormatError("no weight_map of tensors to files") }
        var files: [String: String] = [:]
        for (tensor, value) in map {
            // A name, so that no index reaches out of its directory.
            guard let name = value.stringValue, name.hasSuffix(".safetensors"), !name.contains("/"),
                !name.utf8.contains(0)
            else {
                let shown = FormatError.quoted(value.stringValue ?? value.kind)
                throw FormatError(
                    "weight_map puts \(FormatError.quoted(tensor)) into \(shown), expected a .safetensors file's name")
            }
            files[tensor] = name
        }
        let count = Set(files.values).count
        guard count <= maximumShards else {
            throw FormatError("weight_map names \(count) files, at most 4096 are read")
        }
        return files
    }

    /// All problems; beyond the first two dozen only their number.
    static func summary(_ problems: [String]) -> String {
        let shown = problems.prefix(24).joined(separator: "; ")
        return problems.count > 24 ? "\(shown); and \(problems.count - 24) more" : shown
    }

    /// The tensor of that name, if there is one.
    func tensor(named name: String) -> SafetensorsFile.Tensor? { places[name]?.tensor }

    /// Calls `body` with the tensor's bytes (empty when there is none), valid until it returns.
    func withBytes<Result>(of name: String, _ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        guard let place = places[name] else { return try body(UnsafeRawBufferPointer(start: nil, count: 0)) }
        return try shards[place.shard].withBytes(of: place.tensor, body)
    }

    /// Lets go of the memory that reading the tensor took.
    func releasePages(of name: String) {
        if let place = places[name] { shards[place.shard].releasePages(of: place.tensor) }
    }

    /// Whether two tensors have the same shape, type and bytes.
    func areEqual(_ first: String, _ second: String) -> Bool {
        guard let one = tensor(named: first), let other = tensor(named: second) else { return false }
        guard one.shape == other.shape, one.type == other.type else { return false }
        return withBytes(of: first) { one in
            withBytes(of: second) { other in
                guard let start = one.baseAddress, let otherStart = other.baseAddress else { return true }
                return memcmp(start, otherStart, one.count) == 0
            }
        }
    }
}
