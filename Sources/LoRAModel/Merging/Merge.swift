public import LoRAFormats

/// Adapters on their way into the weights of a base: W′ = W + Δ, where Δ is Σ wᵢ · sᵢ · Bᵢ · Aᵢ or what another method
/// makes of the adapters' deltas, computed in f32 and rounded once.
///
/// Tensors are read, changed and written a run of rows at a time, so memory does not grow with the base.
public struct Merge {
    /// An adapter as it was asked for.
    public struct Source {
        public let path: String
        public let file: AdapterFile
        public let weight: Float

        public init(path: String, file: AdapterFile, weight: Float) {
            self.path = path
            self.file = file
            self.weight = weight
        }
    }

    public let base: BaseModel
    public let method: MergeMethod
    public let type: MergeType
    /// The adapters' parameters, and their weights.
    public let parts: [(adapter: AdapterParameters, weight: Float)]
    /// What the merged base says about itself.
    public let record: MergeRecord
    private let sources: [Source]
    /// Asked before each tensor: true ends the merge with `CancellationError`.
    public var isCancelled: () -> Bool = { false }

    /// Checks that the adapters belong to the base, fit it, are not in it yet, and that the types can be written.
    ///
    /// An adapter belongs to the base it was trained on, and to every base that was made from it by merging: the sum of
    /// deltas does not depend on their order.
    /// - Parameters:
    ///   - again: merge an adapter that is in the base already.
    ///   - allowsOtherBase: go ahead with an adapter that was trained on another base when its shapes fit.
    /// - Throws: `FormatError` that names everything which is wrong.
    public init(
        base: BaseModel, sources: [Source], method: MergeMethod, type: MergeType, again: Bool, allowsOtherBase: Bool
    ) throws {
        precondition(!sources.isEmpty, "a merge of \(sources.count) adapters")
        self.base = base
        self.sources = sources
        self.method = method
        self.type = type
        let fingerprint = BaseFingerprint.fingerprint(of: base.file)
        var record = try MergeRecord(gguf: base.file)
        var problems: [FormatError] = []
        var parts: [(AdapterParameters, Float)] = []
        let ancestors = Set(record.entries.map(\.baseFingerprint) + [fingerprint])
        for source in sources {
            do {
                if !allowsOtherBase { try Self.check(source, against: ancestors, fingerprint) }
                if !again { try Self.check(source, notIn: record) }
                let adapter = try source.file.parameters(for: base, path: source.path, allowsOtherBase: true)
                parts.append((adapter.resolved(for: base), source.weight))
            } catch let error as FormatError { problems.append(error) }
            record.entries.append(
                MergeRecord.Entry(
                    name: source.path.split(separator: "/").last.map(String.init) ?? source.path,
                    tensorDigest: source.file.tensorDigest, weight: source.weight, method: method.description,
                    baseFingerprint: fingerprint))
        }
        if problems.count == 1 { throw problems[0] }
        guard problems.isEmpty else { throw FormatError(problems.map(\.description).joined(separator: "; ")) }
        self.parts = parts
        self.record = record
        try checkTypes()
    }

    private static func check(_ source: Source, against ancestors: Set<String>, _ actual: String) throws {
        guard let expected = source.file.record.baseFingerprint, !ancestors.contains(expected) else { return }
        throw FormatError(
            "trained on another base: the adapter's is \(expected), this one is \(actual)"
                + (ancestors.count > 1 ? " (merged from \(ancestors.count - 1) more)" : "")
                + "; use the adapter's base, or --allow-other-base when the shapes fit", file: source.path)
    }

    private static func check(_ source: Source, notIn record: MergeRecord) throws {
        guard let entry = record.entries.first(where: { $0.tensorDigest == source.file.tensorDigest }) else { return }
        throw FormatError(
            "is merged already, as \(FormatError.quoted(entry.name)) with weight \(entry.weight); --again merges it twice",
            file: source.path)
    }

    private func checkTypes() throws {
        let misfits = base.file.tensors.filter { tensor in
            let type = type.type(from: tensor.type)
            return !parts(of: tensor).isEmpty && !(tensor.shape.last ?? 0).isMultiple(of: type.blockSize)
        }
        guard misfits.isEmpty else {
            throw FormatError(
                "cannot be written as \(type.rawValue): rows of \(misfits.map(\.name).joined(separator: ", ")) are no "
                    + "whole number of blocks", file: base.file.path)
        }
    }

    // MARK: Writing

    /// Writes the merged base to `path`, atomically.
    /// - Throws: `FormatError` or `CancellationError`; what was at `path` is then still there.
    public func write(to path: String, pool: ThreadPool) throws -> MergeReport {
        let collector = Collector()
        let writer = try makeWriter(pool: pool, collector: collector, replacement: nil)
        var file = try AtomicFile(path: path)
        try file.reserve(try writer.byteCount())
        try writer.write { try file.write($0) }
        try file.commit()
        return collector.report
    }

    /// Puts the merged base in the place of the base, atomically, and a record beside it with which
    /// `UndoFile.restore` gets the earlier one back. Whoever has the old file mapped goes on with it.
    /// - Throws: `FormatError` or `CancellationError`; the old base is then still in place.
    public func replaceBase(pool: ThreadPool) throws -> MergeReport {
        let collector = Collector()
        let size = try makeWriter(pool: pool, collector: collector, replacement: nil).byteCount()
        let replacement = try UndoableReplacement(
            of: base.file.map, byteCount: size, names: sources.map { "\($0.path):\($0.weight)" })
        try makeWriter(pool: pool, collector: collector, replacement: replacement).write { try replacement.write($0) }
        try replacement.commit()
        collector.report.state = replacement.after
        return collector.report
    }

    /// Gathers the report while tensors are written.
    private final class Collector {
        var report = MergeReport()
    }

    private func makeWriter(
        pool: ThreadPool, collector: Collector, replacement: UndoableReplacement?
    ) throws -> GGUFWriter {
        var writer = GGUFWriter(alignment: base.file.alignment)
        for key in base.file.keys where !MergeRecord.keys.contains(key) {
            if let value = base.file.metadata[key] { try writer.add(key, value) }
        }
        try record.add(to: &writer)
        // In the order of the old file, so that the record of changes can be written on the way.
        for tensor in base.file.tensors.sorted(by: { $0.offset < $1.offset }) {
            let parts = parts(of: tensor)
            let newType = parts.isEmpty ? tensor.type : type.type(from: tensor.type)
            try writer.addTensor(tensor.name, type: newType, shape: tensor.shape) { sink in
                if isCancelled() { throw CancellationError() }
                if parts.isEmpty {
                    try copy(tensor, replacement, sink)
                } else {
                    let moments = try merge(tensor, newType, parts, pool, replacement, sink)
                    collector.report.tensors.append(.init(name: tensor.name, type: newType, moments: moments))
                }
            }
        }
        return writer
    }

    private func copy(_ tensor: GGUFTensor, _ replacement: UndoableReplacement?, _ sink: GGUFWriter.Sink) throws {
        let range = tensor.offset..<tensor.offset + tensor.byteCount
        try replacement?.copies(range)
        for lower in stride(from: range.lowerBound, to: range.upperBound, by: 1 << 22) {
            let part = lower..<min(lower + 1 << 22, range.upperBound)
            try sink(UnsafeRawBufferPointer(rebasing: base.file.map.bytes[part]))
            base.file.map.releasePages(part)
        }
    }

    private func merge(
        _ tensor: GGUFTensor, _ newType: GGUFTensorType, _ parts: [TensorDelta.Part], _ pool: ThreadPool,
        _ replacement: UndoableReplacement?, _ sink: GGUFWriter.Sink
    ) throws -> RoundingMoments {
        let pair = parts[0].delta.pair
        guard let bytes = base.file.bytes(of: tensor).baseAddress else { return RoundingMoments() }
        let old = FrozenMatrix(bytes: bytes, type: tensor.type, rows: pair.outputs, columns: pair.inputs)
        let delta = TensorDelta(
            method: method, parts: parts, pool: pool, chunkRows: TensorMerge.chunkRows(old),
            baseRows: { out, rows in
                for (index, row) in rows.enumerated() { old.expand(out + index * old.columns, row: row) }
            })
        let merge = TensorMerge(tensor: tensor, old: old, type: newType, delta: delta, pool: pool)
        return try merge.run { rows, part in
            let range = tensor.offset + rows.lowerBound * old.rowBytes..<tensor.offset + rows.upperBound * old.rowBytes
            if newType == tensor.type { try replacement?.changes(range, to: part) }
            try sink(part)
            // Without a change of the same length, the record takes the old bytes later.
            base.file.map.releasePages(range)
        }
    }

    /// The adapters' parts of a tensor's delta; none when it is not touched.
    private func parts(of tensor: GGUFTensor) -> [TensorDelta.Part] {
        guard let (block, target) = TargetModule.projection(ofWeight: tensor.name) else { return [] }
        return zip(parts, sources).compactMap { part, source in
            guard let pair = part.adapter.layout.pair(block: block, target) else { return nil }
            var result = TensorDelta.Part(
                delta: ModuleDelta(adapter: part.adapter, pair: pair), weight: part.weight)
            if case .dare(_, let seed) = method {
                result.seed = seed &+ SplitMix64.hash(source.file.tensorDigest + tensor.name)
            }
            return result
        }
    }
}
