import ArgumentParser

@main
struct LoRACommand: ParsableCommand {
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
        ])
}
