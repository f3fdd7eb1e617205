import ArgumentParser
import LoRAFormats

struct UnmergeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "unmerge", abstract: "Not built yet.", shouldDisplay: false)

    func run() throws { throw FormatError("this command is not built yet") }
}
