internal import Foundation
internal import LoRAFormats
internal import LoRAModel
internal import OrderedCollections

/// The adapter's file that a finished run writes, with the record of how it came about.
///
/// Nothing in it tells how often the run was interrupted, or how long it took: the same run gives the same bytes.
struct TrainedFile {
    let setup: TrainingSetup
    let progress: RunProgress
    /// Steps done when the adapter was as it is written.
    let keptStep: Int
    /// Of the adapter as it is written; nil without validation.
    let validationLoss: Double?
    let threads: Int
    let toolVersion: String

    /// - Throws: `FormatError` when the adapter holds what a file cannot.
    func make() throws -> AdapterFile {
        var configuration = setup.configuration
        configuration.baseModel = setup.base.file.metadata["general.name"]?.stringValue
        let targets = TargetModule.allCases.filter { target in
            setup.adapter.layout.pairs.contains { $0.target == target }
        }
        let record = AdapterRecord(
            domain: Self.domain(of: setup.options.outputPath),
            baseFingerprint: BaseFingerprint.fingerprint(of: setup.base.file), rank: configuration.rank,
            alpha: configuration.alpha, targets: targets.map(\.rawValue), training: .object(record))
        return try AdapterFile(
            configuration: configuration, record: record,
            tensors: setup.adapter.tensors(
                configuration: setup.base.configuration, type: setup.options.precision))
    }

    private var record: OrderedDictionary<String, JSONValue> {
        var record: OrderedDictionary<String, JSONValue> = [
            "tool_version": .string(toolVersion),
            "date": .string(Self.date),
            "data_sha256": .string(setup.dataset.digest),
            "examples": .integer(Int64(setup.dataset.rowCount)),
            "skipped_rows": .integer(Int64(setup.dataset.skips.count)),
            "tokens": .integer(Int64(setup.dataset.tokenCount)),
            "supervised_tokens": .integer(Int64(setup.dataset.supervisedCount)),
            "steps": .integer(Int64(progress.step)),
            "compute": .string(setup.options.compute.rawValue),
            "threads": .integer(Int64(threads)),
            "options": .object(setup.options.resolved),
        ]
        if let digest = setup.initialAdapterDigest { record["initial_adapter_sha256"] = .string(digest) }
        if let first = progress.losses.first, let last = progress.losses.last, let best = progress.losses.min() {
            record["first_loss"] = .number(first)
            record["last_loss"] = .number(last)
            record["best_loss"] = .number(best)
        }
        if let validationLoss {
            record["kept_step"] = .integer(Int64(keptStep))
            record["valid_loss"] = .number(validationLoss)
        }
        return record
    }

    /// The file's name without its extension.
    private static func domain(of path: String) -> String {
        URL(fileURLWithPath: path).deletingPathExtension().lastPathComponent
    }

    /// The day, in UTC; `SOURCE_DATE_EPOCH` (https://reproducible-builds.org/specs/source-date-epoch) sets it, so that a
    /// published adapter can be made again byte for byte.
    private static var date: String {
        // Years of four digits: what the environment holds must not cost the run its adapter.
        let seconds = ProcessInfo.processInfo.environment["SOURCE_DATE_EPOCH"].flatMap { Int($0) }
            .flatMap { (0..<253_402_300_800).contains($0) ? TimeInterval($0) : nil }
        let date = seconds.map { Date(timeIntervalSince1970: $0) } ?? Date()
        return String(date.ISO8601Format().prefix(10))
    }
}
