import ArgumentParser
import LoRAConversion
import LoRAFormats
import LoRAModel
import OrderedCollections

/// `lora import`: an adapter of another program.
struct ImportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Turn an adapter of PEFT, llama.cpp or MLX into a .lora file.",
        discussion: """
            Example:
              lora import peft-directory --base models/base.bin --output adapters/domain.lora
            """)

    @Argument(help: "A directory of PEFT or mlx-lm, or a GGUF adapter.")
    var source: String

    @Option(help: ArgumentHelp("The base model that the adapter belongs to, a GGUF file.", valueName: "file"))
    var base: String

    @Option(help: ArgumentHelp("The .lora file to write.", valueName: "file"))
    var output: String

    @Option(help: "Type of A and B: f32, f16 or bf16 (default: as they are).")
    var precision: PrecisionOption?

    @Flag(help: "Print one JSON object.")
    var json = false

    @OptionGroup var otherBase: OtherBaseOptions
    @OptionGroup var common: CommonOptions

    func run() throws {
        let file = try AdapterConversion.importAdapter(
            from: source, base: try BaseModel(path: base), to: output, precision: precision?.type,
            allowsOtherBase: otherBase.allowOtherBase)
        let facts: OrderedDictionary<String, JSONValue> = [
            "output": .string(output), "domain": .string(file.record.domain),
            "rank": .integer(Int64(file.configuration.rank)), "alpha": .number(file.configuration.alpha),
            "tensors": .integer(Int64(file.tensors.tensors.count)),
        ]
        if json { return Console.print(JSONValue.object(facts).serialized()) }
        Console.print(
            "\(output): rank \(file.configuration.rank), \(file.tensors.tensors.count) tensors")
    }
}
