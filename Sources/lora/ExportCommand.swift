import ArgumentParser
import LoRAFormats

struct ExportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Not built yet.", shouldDisplay: false)

    func run() throws { throw FormatError("this command is not built yet") }
}
