import ArgumentParser
import LoRATraining

/// What happens in the course of a run, beside its steps.
struct RunOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Steps between validations (default: one after each epoch).", valueName: "n"))
    var evalEvery: Int?

    @Option(help: "Which adapter is written: best or last (default: best where there is validation data).")
    var keep: TrainingOptions.Keep?

    @Option(help: ArgumentHelp("Stop after so many validations in a row without a lower loss.", valueName: "n"))
    var patience: Int?

    @Option(help: ArgumentHelp("Steps between checkpoints (default: one only when interrupted).", valueName: "n"))
    var saveEvery: Int?

    @Option(help: ArgumentHelp("Where checkpoints are kept (default: <output>.checkpoints).", valueName: "dir"))
    var checkpoints: String?

    @Option(help: ArgumentHelp("Go on from the latest checkpoint there, with the same options.", valueName: "dir"))
    var resume: String?

    @Option(help: ArgumentHelp("Write a line of JSON for each step and each validation.", valueName: "file"))
    var log: String?

    @Option(help: ArgumentHelp("Options by their names, as YAML; those of the command line win.", valueName: "file"))
    var config: String?

    @Flag(
        help: "Try learning rates from 1e-6 to 1, show the losses and stop (100 steps unless --steps says otherwise).")
    var findLr = false

    /// Options of a run that has steps to follow, by name.
    static let excludedByRangeTest: Set<String> = [
        "resume", "checkpoints", "save-every", "eval-every", "keep", "patience", "log", "report", "tensorboard",
    ]

    func validate() throws {
        for (name, value) in [("--eval-every", evalEvery), ("--patience", patience), ("--save-every", saveEvery)] {
            if let value, !(1...1_000_000_000).contains(value) {
                throw ValidationError("\(name) must be from 1 to 1000000000")
            }
        }
        let given = [
            ("resume", resume != nil), ("checkpoints", checkpoints != nil), ("save-every", saveEvery != nil),
            ("eval-every", evalEvery != nil), ("keep", keep != nil), ("patience", patience != nil), ("log", log != nil),
        ].filter(\.1).map(\.0)
        if findLr, let option = given.first {
            throw ValidationError("--find-lr and --\(option) exclude each other: no run follows the test")
        }
        if resume != nil, checkpoints != nil {
            throw ValidationError(
                "--resume and --checkpoints exclude each other: a run goes on where its checkpoints are")
        }
    }
}
