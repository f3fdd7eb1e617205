internal import Glibc
internal import LoRAFormats
internal import LoRAModel

/// Where a run writes its adapter and what goes with it, tried before hours are spent on it.
struct TrainingOutput {
    private let path: String
    /// Other files that the run writes, by their options.
    private let companions: [(option: String, path: String)]
    /// Files that the run reads; an adapter in their place would be a loss.
    private let sources: [(role: String, path: String)]
    /// The largest that the adapter's file can become.
    private let byteCount: Int

    /// Beside the tensors the file holds some text.
    private static let textBytes = 64 << 10

    init(_ setup: TrainingSetup) {
        path = setup.options.outputPath
        companions = [("--log", setup.options.logPath), ("--report", setup.options.reportPath)]
            .compactMap { option, path in path.map { (option, $0) } }
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
        for output in [("--output", path)] + companions {
            guard let target = Self.identity(output.1) else { continue }
            for source in sources where Self.identity(source.path).map({ $0 == target }) ?? false {
                throw FormatError("is the \(source.role) itself; give another \(output.0)", file: output.1)
            }
        }
        for companion in companions where companion.path == path {
            throw FormatError("is the --output as well; give another \(companion.option)", file: path)
        }
        try AtomicFile(path: path).reserve(byteCount)
    }

    /// Device and inode of what is at `path`.
    private static func identity(_ path: String) -> [UInt64]? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        return [UInt64(status.st_dev), UInt64(status.st_ino)]
    }
}
