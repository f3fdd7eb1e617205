internal import Foundation
internal import LoRAFormats

/// Writes what happens in a run as TensorBoard's scalars, while it happens.
public final class TensorBoardRecorder: RunRecorder {
    private let directory: String
    private var file: EventFile?

    /// - Parameter directory: of the run alone; TensorBoard shows each directory as one run.
    /// - Throws: `FormatError` when the directory cannot be made.
    public init(directory: String) throws {
        do {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        } catch {
            throw FormatError(
                "cannot make the directory for TensorBoard: \(error.localizedDescription)", file: directory)
        }
        self.directory = directory
    }

    /// Makes readers forget steps that will happen again. Where the earlier files are not there, their steps are written
    /// once more.
    /// - Throws: `FormatError` when the directory cannot be written.
    public func begin(_ history: [RunEvent]) throws {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        let hasEarlierFiles = names.contains { $0.hasPrefix("events.out.tfevents.") }
        let lastStep = history.reduce(0) { max($0, $1.step) }
        let file = try EventFile(directory: directory, firstStep: hasEarlierFiles ? lastStep + 1 : 1)
        self.file = file
        if !hasEarlierFiles { for event in history { try file.write(step: event.step, event.scalars) } }
    }

    public func record(_ event: RunEvent) throws { try file?.write(step: event.step, event.scalars) }
}

extension RunEvent {
    /// Steps done with it.
    var step: Int {
        switch self {
        case .step(let record): record.report.step
        case .evaluation(let record): record.step
        }
    }

    /// What TensorBoard gets, by tag.
    fileprivate var scalars: [(tag: String, value: Double)] {
        switch self {
        case .step(let record):
            let own = [
                ("train/loss", record.report.loss), ("train/learning_rate", record.report.learningRate),
                ("train/grad_norm", record.report.gradientNorm), ("train/epoch", record.epoch),
                ("train/tokens_per_second", record.tokensPerSecond),
                ("memory/peak_rss_bytes", Double(record.peakResidentBytes)),
            ]
            let blocks = record.blockGradientNorms.enumerated().map { ("grad_norm/block_\($0)", $1) }
            return own + blocks + record.report.outcome.metrics.map { ("train/\($0)", $1) }
        case .evaluation(let record):
            return [("valid/loss", record.loss)] + record.metrics.map { ("valid/\($0)", $1) }
        }
    }
}
