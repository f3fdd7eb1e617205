import ArgumentParser
import LoRAFormats
import LoRAModel

/// How the machine is used, and what is written beside the adapter.
struct ExecutionOptions: ParsableArguments {
    @Option(help: "Operands of matrix products: auto, f32 or bf16.")
    var compute = ComputeOption.auto

    @Option(help: "Keep block inputs only and compute the rest again: auto (when memory wants it), on or off.")
    var checkpointing = Checkpointing.auto

    @Option(help: ArgumentHelp("Memory that the process may take (default: 1.5GiB).", valueName: "size"))
    var maxMemory: ByteSize?

    @Option(help: "Seed of initial values, order and dropout.")
    var seed: UInt64 = 0

    @Option(help: "Element type of the adapter's file: bf16, f16 or f32.")
    var precision = PrecisionOption.bf16

    @Flag(help: "Read all data, show what would be trained, and stop.")
    var dryRun = false

    @Flag(help: "Print one JSON object.")
    var json = false

    func validate() throws {
        if dryRun, json { throw ValidationError("--dry-run and --json exclude each other") }
    }
}

/// Element types of an adapter's file.
enum PrecisionOption: String, ExpressibleByArgument, CaseIterable {
    case bf16, f16, f32

    var type: SafetensorsType {
        switch self {
        case .bf16: .bf16
        case .f16: .f16
        case .f32: .f32
        }
    }
}
