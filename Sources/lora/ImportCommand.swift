import ArgumentParser
import LoRAConversion
import LoRAFormats
import LoRAModel

/// `lora import`: other programs' models and adapters become ours.
struct ImportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract:
            "Make a base of a Hugging Face directory or a GGUF file, or a .lora file of another program's adapter.",
        discussion: """
            Without --base, SOURCE is a model: a Hugging Face directory (config.json, safetensors, tokenizer.json) of the
            families llama, mistral, qwen2 or qwen3, or a GGUF file. With --base it is an adapter for that base: a PEFT
            directory, an MLX directory or a GGUF adapter.

            Example:
              lora import SmolLM2-135M-Instruct --output models/base.bin --type q8_0
            """)

    @Argument(help: "The directory or file to import.")
    var source: String

    @Option(help: ArgumentHelp("Where to write the base or the adapter.", valueName: "file"))
    var output: String

    @Option(help: ArgumentHelp("The base that an adapter belongs to, a GGUF file.", valueName: "file"))
    var base: String?

    @Option(help: "Type of the base's matrices: keep, f32, f16, bf16 or q8_0 (default: keep).")
    var type: MatrixTypeOption?

    @OptionGroup var common: CommonOptions

    func validate() throws {
        if base != nil, type != nil { throw ValidationError("--type is for bases; an adapter is kept as it is") }
    }

    func run() throws {
        if let base {
            try AdapterConversion.importAdapter(from: source, base: BaseModel(path: base), to: output)
            if !common.quiet { Console.note("wrote \(output)") }
            return
        }
        let report = try BaseConversion.importBase(from: source, to: output, type: type?.tensorType)
        for note in report.notes { Console.note("warning: \(note)") }
        if !common.quiet {
            Console.note("wrote \(output): \(report.architecture), \(report.parameterCount) parameters")
        }
    }
}

/// What matrices of a base are stored in.
enum MatrixTypeOption: String, ExpressibleByArgument, CaseIterable {
    case keep, f32, f16, bf16
    case q8 = "q8_0"

    /// nil for each one's own.
    var tensorType: GGUFTensorType? {
        switch self {
        case .keep: nil
        case .f32: .f32
        case .f16: .f16
        case .bf16: .bf16
        case .q8: .q8_0
        }
    }
}
