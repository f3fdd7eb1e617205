internal import LoRAFormats
public import LoRAModel

/// Writes a page about a run when it is finished.
public final class ReportRecorder: RunRecorder {
    private let path: String
    private let setup: TrainingSetup
    private let pool: ThreadPool
    private let command: String
    private var history: [RunEvent] = []

    /// Makes sure that the page can be written before hours are spent on the run.
    /// - Parameter command: the command line, as a shell reads it.
    /// - Throws: `FormatError` when nothing can be written at `path`.
    public init(path: String, setup: TrainingSetup, pool: ThreadPool, command: String) throws {
        self.path = path
        self.setup = setup
        self.pool = pool
        self.command = command
        // Taken back at once: an atomic file leaves nothing without its commit.
        _ = try AtomicFile(path: path)
    }

    public func begin(_ history: [RunEvent]) { self.history = history }

    public func record(_ event: RunEvent) { history.append(event) }

    /// Asks base and adapter some questions, measures the adapter's change, and writes the page.
    /// - Throws: `FormatError` when the page cannot be written or the memory cannot be had.
    public func finish(_ summary: TrainingSummary) throws {
        try AtomicFile.write(ReportPage(content: content(summary)).html.source, to: path)
    }

    private func content(_ summary: TrainingSummary) throws -> ReportContent {
        let file = try AdapterFile.read(path: summary.adapterPath)
        var data = [SplitStatistics("training", setup.dataset)]
        if let validation = setup.validation { data.append(SplitStatistics("validation", validation)) }
        return ReportContent(
            domain: file.record.domain,
            baseName: setup.base.file.metadata["general.name"]?.stringValue ?? setup.options.basePath,
            command: command, summary: summary,
            parameterCount: setup.adapter.layout.parameterCount, history: history,
            changes: setup.adapter.changes(of: setup.base, pool: pool), data: data,
            answers: try answers(), options: ReportContent.options(file.record))
    }

    private func answers() throws -> [AnswerComparison] {
        let asked = setup.validation ?? setup.dataset
        guard asked.form == .preference else {
            return try AnswerComparison.make(asked.examples, setup: setup, pool: pool)
        }
        // What is expected is the answer that was chosen.
        return try AnswerComparison.make(asked.pairs.lazy.map(\.chosen), setup: setup, pool: pool)
    }
}
