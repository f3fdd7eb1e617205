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
        // A run that was resumed ends without its checkpoints; from the start it gives the same.
        let words = TrainCommand.words(Array(CommandLine.arguments.dropFirst()), without: ["--resume"])
        let command = ShellCommand.text(["lora"] + words)
        let page = try report.map { try ReportRecorder(path: $0, setup: setup, pool: pool, command: command) }
        let events = try tensorboard.map { try TensorBoardRecorder(directory: $0) }
        let recorders: [(any RunRecorder)?] = [page, events]
        return recorders.compactMap { $0 }
    }
}
