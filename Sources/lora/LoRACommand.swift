import ArgumentParser
import Foundation

@main
struct LoRACommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lora",
        abstract: "Trains, checks and runs LoRA adapters of one frozen base model, on ordinary CPUs.",
        discussion: """
            Example:
              lora train --base models/base.bin --data datasets/smart-home --output adapters/smart-home.lora
              lora eval --base models/base.bin --adapter adapters/smart-home.lora --data datasets/smart-home
            """,
        version: toolVersion,
        subcommands: [
            TrainCommand.self, EvalCommand.self, GenerateCommand.self, InspectCommand.self, TokenizeCommand.self,
            ImportCommand.self, ExportCommand.self, MergeCommand.self, UnmergeCommand.self, ServeAdapterCommand.self,
        ])

    /// Runs the command that the arguments name. A failure is one line on standard error, whatever a file or a template
    /// put into its text; wrong usage is explained by the argument parser.
    static func main() async {
        // A pipe that closes and a file that may not grow come back as errors of the write.
        for number in [SIGPIPE, SIGXFSZ] { signal(number, SIG_IGN) }
        LostMap.endsProcess()
        var configuration: TrainConfiguration?
        do {
            let words = Array(CommandLine.arguments.dropFirst())
            configuration = try TrainConfiguration(expanding: words)
            var command = try parseAsRoot(configuration?.arguments ?? words)
            if var server = command as? any AsyncParsableCommand { try await server.run() } else { try command.run() }
        } catch {
            if exitCode(for: error) == .validationFailure, let place = configuration?.place(of: message(for: error)) {
                Console.fail("\(place): \(message(for: error))")
            }
            guard exitCode(for: error) == .failure, !(error is ExitCode) else { exit(withError: error) }
            Console.fail(message(for: error))
        }
    }
}
