import LoRAFormats
import LoRAModel

/// Reads adapters of a directory and checks that they can be used with one base.
struct AdapterReader: Sendable {
    /// What is known of a file without looking at its tensors.
    struct Description: Sendable {
        /// `AdapterFile.contentDigest`.
        let digest: String
        let rank: Int
        /// Of the file when it was read.
        let state: OpenFile.State
    }

    /// Why a file cannot be used.
    enum Failure: Error {
        case missing
        case outside
        /// - Parameter state: of the file that was read; nil when it could not be read, so that trying again may help.
        case unusable(String, state: OpenFile.State?)
    }

    let base: BaseModel
    /// Of the base in the map, which need not be the file at its path any more.
    let fingerprint: String
    /// Bytes of matrices that one adapter may have.
    private let maximumBytes: Int

    /// Bytes of a safetensors header for each of an adapter's tensors, at most, and for anything else in it.
    private static let headerBytes = (perTensor: 1024, rest: 1 << 20)
    /// A file that changes while it is read is read again so often.
    private static let attempts = 3

    /// - Parameter maximumBytes: as in `AdapterStore`; 0 for any number.
    init(base: BaseModel, maximumBytes: Int) {
        self.base = base
        fingerprint = BaseFingerprint.fingerprint(of: base.file)
        self.maximumBytes = maximumBytes == 0 ? AdapterFile.maximumTensors : maximumBytes
    }

    /// Checks all of the file but its tensors.
    func describe(_ path: String, in directory: OpenDirectory) throws(Failure) -> Description {
        try read(path, in: directory) { try examine($0, $1).description }
    }

    /// Reads the file and checks all of it.
    /// - Parameters:
    ///   - known: a state of the file in which it cannot be used, and why.
    ///   - withPool: calls its argument with threads for arithmetic that nobody else uses then; nil for the calling one
    ///     alone.
    func load(
        _ path: String, in directory: OpenDirectory, known: (state: OpenFile.State, reason: String)? = nil,
        withPool: ((ThreadPool?) -> AdapterParameters) -> AdapterParameters
    ) throws(Failure) -> (description: Description, parameters: AdapterParameters) {
        try read(path, in: directory, known: known) { archive, state in
            let (description, layout) = try examine(archive, state)
            let limit =
                layout.parameterCount * MemoryLayout<Float>.stride
                + 3 * layout.pairs.count * Self.headerBytes.perTensor + Self.headerBytes.rest
            let file = try AdapterFile.read(archive, maximumTensors: min(limit, AdapterFile.maximumTensors))
            let parameters = try AdapterParameters(file: file, configuration: base.configuration)
            let hasMagnitudes = parameters.layout.rowFactors == .magnitudes
            let resolved = hasMagnitudes ? withPool { parameters.resolved(for: base, pool: $0) } : parameters
            guard resolved.isFinite else { throw FormatError("its magnitudes give values that are not finite") }
            return (description, resolved)
        }
    }

    /// Opens the file, reads it whole and hands it to `body`.
    private func read<Result>(
        _ path: String, in directory: OpenDirectory, known: (state: OpenFile.State, reason: String)? = nil,
        _ body: (ZipArchive, OpenFile.State) throws -> Result
    ) throws(Failure) -> Result {
        for _ in 0..<Self.attempts {
            let file: OpenFile
            do throws(OpenDirectory.Failure) { file = try directory.open(path) } catch {
                switch error {
                case .missing: throw .missing
                case .outside: throw .outside
                case .refused(let error): throw .unusable(error.description, state: nil)
                }
            }
            let state = file.state
            if let known, known.state == state { throw .unusable(known.reason, state: state) }
            let bytes: OwnedBytes?
            do { bytes = try file.contents(limit: fileLimit) } catch {
                throw .unusable("\(error)", state: nil)
            }
            guard let bytes else { continue }
            do { return try body(ZipArchive(bytes), state) } catch { throw .unusable("\(error)", state: state) }
        }
        throw .unusable("the file changes while it is read; write a new one beside it and rename it", state: nil)
    }

    /// Tensors of the largest adapter that is taken, and a record beside them.
    private var fileLimit: Int { min(maximumBytes, AdapterFile.maximumTensors) + (64 << 20) }

    private func examine(
        _ archive: ZipArchive, _ state: OpenFile.State
    ) throws -> (description: Description, layout: AdapterLayout) {
        let header = try AdapterHeader(archive)
        if let expected = header.record.baseFingerprint, expected != fingerprint {
            throw FormatError("trained on another base: the adapter's is \(expected), this one is \(fingerprint)")
        }
        let layout = AdapterLayout(
            configuration: base.configuration, matcher: try AdapterModuleMatcher(header.configuration))
        guard !layout.pairs.isEmpty else {
            throw FormatError("no target module of the adapter is a projection of this base")
        }
        let least = PackedAdapter.leastByteCount(layout)
        guard least <= maximumBytes else {
            throw FormatError(
                "takes at least \(least) bytes of memory, more than the \(maximumBytes) that adapters may take")
        }
        let description = Description(
            digest: header.contentDigest, rank: header.configuration.rank, state: state)
        return (description, layout)
    }
}
