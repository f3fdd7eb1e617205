import ArgumentParser
import LoRATraining

/// What is learned of the data, and what is kept to validate with.
struct DataOptions: ParsableArguments {
    @Option(help: "Answers of a conversation that are learned: all, or the last alone.")
    var mask = LossMask.all

    @Option(
        help: ArgumentHelp(
            "Keep a share (0.1) or a number (200) of the examples to validate with, where there is no valid.jsonl (default: none).",
            valueName: "part"))
    var holdOut: HoldOutOption?
}

/// A share below 1, or a number of examples.
struct HoldOutOption: ExpressibleByArgument {
    let part: HoldOut

    init?(argument: String) {
        if let count = Int(argument), count > 0 {
            part = .count(count)
        } else if let share = Double(argument), share > 0, share < 1 {
            part = .share(share)
        } else {
            return nil
        }
    }
}
