public import ArgumentParser
public import LoRAConversion
import LoRAFormats
import LoRAModel
import OrderedCollections

extension AdapterFormat: ExpressibleByArgument {}

/// `lora export`: an adapter for other programs.
struct ExportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Write an adapter for PEFT, llama.cpp or MLX.",
        discussion: """
            Example:
              lora export adapters/smart-home.lora --base models/base.bin --format gguf --output smart-home.gguf
            """)

    @Argument(help: "A .lora file, or a directory that PEFT wrote.")
    var adapter: String

    @Option(help: ArgumentHelp("The base model that the adapter belongs to, a GGUF file.", valueName: "file"))
    var base: String

    @Option(help: "peft and mlx write a directory, gguf a file for llama.cpp.")
    var format: AdapterFormat

    @Option(help: ArgumentHelp("The directory or the file to write.", valueName: "path"))
    var output: String

    @Option(
        help: ArgumentHelp(
            "What PEFT or MLX shall load as the base, such as a name on the Hugging Face Hub (default: the recorded name).",
            valueName: "name"))
    var baseName: String?

    @Option(help: "Type of A and B: f32, f16 or bf16 (default: as they are).")
    var precision: PrecisionOption?

    @Flag(help: "Print one JSON object.")
    var json = false

    @OptionGroup var otherBase: OtherBaseOptions
    @OptionGroup var common: CommonOptions

    func run() throws {
        let file = try AdapterConversion.exportAdapter(
            adapter, base: try BaseModel(path: base), format: format, to: output, baseName: baseName,
            precision: precision?.type, allowsOtherBase: otherBase.allowOtherBase)
        let facts: OrderedDictionary<String, JSONValue> = [
            "output": .string(output), "format": .string(format.rawValue), "domain": .string(file.record.domain),
            "rank": .integer(Int64(file.configuration.rank)), "alpha": .number(file.configuration.alpha),
            "tensors": .integer(Int64(file.tensors.tensors.count)),
        ]
        if json { return Console.print(JSONValue.object(facts).serialized()) }
        Console.print(
            "\(output): \(file.record.domain) for \(format.rawValue), rank \(file.configuration.rank), "
                + "\(file.tensors.tensors.count) tensors")
    }
}
