import ArgumentParser
import LoRAModel
import LoRATraining

/// What shows how a run went.
struct ReportOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Write a page about the run when it is finished.", valueName: "file"))
    var report: String?

    @Option(help: ArgumentHelp("Write the run's scalars for TensorBoard while it goes on.", valueName: "dir"))
    var tensorboard: String?

    /// The options that were given, by name.
    var given: [String] { (report == nil ? [] : ["report"]) + (tensorboard == nil ? [] : ["tensorboard"]) }

    /// - Throws: `FormatError` when something cannot be written where it shall be.
    func recorders(_ setup: TrainingSetup, pool: ThreadPool) throws -> [any RunRecorder] {
        let command = ShellCommand.text(["lora"] + CommandLine.arguments.dropFirst())
        let page = try report.map { try ReportRecorder(path: $0, setup: setup, pool: pool, command: command) }
        let events = try tensorboard.map { try TensorBoardRecorder(directory: $0) }
        let recorders: [(any RunRecorder)?] = [page, events]
        return recorders.compactMap { $0 }
    }
}
