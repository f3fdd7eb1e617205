import ArgumentParser
import LoRAFormats

struct MergeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "merge", abstract: "Not built yet.", shouldDisplay: false)

    func run() throws { throw FormatError("this command is not built yet") }
}
