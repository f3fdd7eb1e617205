internal import Glibc
internal import LoRAFormats
internal import LoRAModel

/// Where a run writes its adapter and what goes with it, tried before hours are spent on it.
struct TrainingOutput {
    private let path: String
    /// What else the run writes, by its options.
    private let companions: [(option: String, path: String)]
    /// Files that the run reads; an adapter in their place would be a loss.
    private let sources: [(role: String, path: String)]
    /// The largest that the adapter's file can become.
    private let byteCount: Int

    /// Beside the tensors the file holds some text.
    private static let textBytes = 64 << 10

    init(_ setup: TrainingSetup) {
        path = setup.options.outputPath
        companions = [
            ("--log", setup.options.logPath), ("--report", setup.options.reportPath),
            ("--checkpoints", setup.options.checkpointsPath),
        ].compactMap { option, path in path.map { (option, $0) } }
        sources =
            [("base", setup.options.basePath), ("training data", setup.dataset.path)]
            + (setup.validation.map { [("validation data", $0.path)] } ?? [])
        byteCount =
            setup.adapter.layout.parameterCount * setup.options.precision.elementBytes
            + setup.adapter.layout.pairs.count * 512 + Self.textBytes
    }

    /// Takes the room that the adapter may need beside the output, and gives it back.
    /// - Throws: `FormatError` when the output cannot be written there, or must not be.
    func check() throws {
        var taken: [(option: String, place: String)] = []
        for output in [("--output", path)] + companions {
            let place = Self.place(output.1)
            for source in sources where Self.place(source.path) == place {
                throw FormatError("is the \(source.role) itself; give another \(output.0)", file: output.1)
            }
            if let other = taken.first(where: { $0.place == place }) {
                throw FormatError("is the \(other.option) as well; give another \(output.0)", file: output.1)
            }
            taken.append((output.0, place))
        }
        try AtomicFile(path: path).reserve(byteCount)
    }

    /// Device and inode of what is at `path`; of its directory, and the name there, where nothing is yet.
    private static func place(_ path: String) -> String {
        var status = stat()
        if stat(path, &status) == 0 { return "\(status.st_dev) \(status.st_ino)" }
        let slash = path.lastIndex(of: "/")
        let directory = slash.map { "\(path[...$0])" } ?? "."
        guard stat(directory, &status) == 0 else { return path }
        return "\(status.st_dev) \(status.st_ino)/\(slash.map { path[path.index(after: $0)...] } ?? path[...])"
    }
}
