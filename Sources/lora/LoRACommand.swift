import ArgumentParser

@main
struct LoRACommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "lora", abstract: "LoRA adapters on CPUs.")
}
