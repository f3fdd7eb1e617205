import ArgumentParser
import LoRAConversion
import LoRAFormats
import LoRAModel
import OrderedCollections

/// `lora export`: an adapter or a base for other programs.
struct ExportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Write an adapter for PEFT, llama.cpp or MLX, or a base as a Hugging Face directory.",
        discussion: """
            Example:
              lora export adapters/smart-home.lora --base models/base.bin --format gguf --output smart-home.gguf
              lora export models/base.bin --format hf --output SmolLM2-135M-Instruct --precision bf16
            """)

    @Argument(help: "A .lora file, or a directory that PEFT wrote; with --format hf a base.")
    var source: String

    @Option(help: ArgumentHelp("The base model that the adapter belongs to, a GGUF file.", valueName: "file"))
    var base: String?

    @Option(help: "peft, mlx and hf write a directory, gguf a file for llama.cpp.")
    var format: ExportFormat

    @Option(help: ArgumentHelp("The directory or the file to write.", valueName: "path"))
    var output: String

    @Option(
        help: ArgumentHelp(
            "What PEFT or MLX shall load as the base, such as a name on the Hugging Face Hub (default: the recorded name).",
            valueName: "name"))
    var baseName: String?

    @Option(
        help: "Type of A and B, or of a base's tensors: f32, f16 or bf16 (default: as they are; quantised ones as f32)."
    )
    var precision: PrecisionOption?

    @Flag(help: "Print one JSON object.")
    var json = false

    @OptionGroup var otherBase: OtherBaseOptions
    @OptionGroup var common: CommonOptions

    func validate() throws {
        if format == .hf {
            guard base == nil, baseName == nil else {
                throw ValidationError("--format hf writes a base: --base and --base-name are for adapters")
            }
        } else if base == nil {
            throw ValidationError("--format \(format.rawValue) writes an adapter: give its --base")
        }
    }

    func run() throws {
        var facts: OrderedDictionary<String, JSONValue> = [
            "output": .string(output), "format": .string(format.rawValue),
        ]
        if let adapterFormat = format.adapterFormat, let base {
            let file = try AdapterConversion.exportAdapter(
                source, base: try BaseModel(path: base), format: adapterFormat, to: output, baseName: baseName,
                precision: precision?.type, allowsOtherBase: otherBase.allowOtherBase)
            facts["domain"] = .string(file.record.domain)
            facts["rank"] = .integer(Int64(file.configuration.rank))
            facts["alpha"] = .number(file.configuration.alpha)
            facts["tensors"] = .integer(Int64(file.tensors.tensors.count))
        } else {
            let file = try BaseModel(path: source).file
            try BaseConversion.exportBase(file, to: output, type: precision?.type)
            facts["tensors"] = .integer(Int64(file.tensors.count))
        }
        Console.printFacts(facts, json: json)
    }
}

/// What `lora export` writes.
enum ExportFormat: String, ExpressibleByArgument, CaseIterable {
    case peft, gguf, mlx, hf

    /// nil for a base.
    var adapterFormat: AdapterFormat? { AdapterFormat(rawValue: rawValue) }
}
