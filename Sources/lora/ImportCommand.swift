import ArgumentParser
import LoRAFormats

struct ImportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import", abstract: "Not built yet.", shouldDisplay: false)

    func run() throws { throw FormatError("this command is not built yet") }
}
