import ArgumentParser
import Foundation
import LoRAFormats
import LoRAModel

/// What every command understands.
struct CommonOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Threads for arithmetic (default: all cores).", valueName: "n"))
    var threads: Int?

    @Flag(help: "Print no progress.")
    var quiet = false

    func validate() throws {
        if let threads, !(1...1024).contains(threads) { throw ValidationError("--threads must be from 1 to 1024") }
    }

    /// The threads that do the arithmetic.
    func makePool() -> ThreadPool { ThreadPool(count: threads) }
}

/// Element type of matrix products, with `auto` for the best that the CPU has.
enum ComputeOption: String, ExpressibleByArgument, CaseIterable {
    case auto, f32, bf16

    /// - Throws: `FormatError` when this CPU cannot do it.
    func resolve() throws -> Compute {
        let compute: Compute =
            switch self {
            case .auto: .best
            case .f32: .f32
            case .bf16: .bf16
            }
        guard compute.isSupported else {
            throw FormatError("--compute \(rawValue) needs a CPU with AVX-512; use --compute f32")
        }
        return compute
    }
}

/// A number of bytes: `1500000`, `512MiB`, `2GiB`, `2GB`.
struct ByteSize: ExpressibleByArgument {
    let bytes: Int

    init?(argument: String) {
        let units: [(String, Int)] = [
            ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("KB", 1000), ("MB", 1_000_000),
            ("GB", 1_000_000_000), ("B", 1), ("", 1),
        ]
        guard let (suffix, unit) = units.first(where: { argument.hasSuffix($0.0) }),
            let number = Double(argument.dropLast(suffix.count)), number > 0, number * Double(unit) < 1e18
        else { return nil }
        bytes = Int(number * Double(unit))
    }
}

/// An adapter on the command line: `x.lora` or `x.lora:0.5`.
struct WeightedAdapter: ExpressibleByArgument {
    let path: String
    let weight: Float

    init?(argument: String) {
        if let colon = argument.lastIndex(of: ":"), let weight = Float(argument[argument.index(after: colon)...]) {
            guard weight.isFinite else { return nil }
            self.weight = weight
            path = String(argument[..<colon])
        } else {
            weight = 1
            path = argument
        }
        if path.isEmpty { return nil }
    }
}

/// Whether an adapter that was trained on another base is taken when its shapes fit.
struct OtherBaseOptions: ParsableArguments {
    @Flag(help: "Go ahead with an adapter that was trained on another base, when its shapes fit.")
    var allowOtherBase = false

    /// The adapter at `path` for `base`.
    /// - Throws: `FormatError` when it cannot be read, does not fit, or belongs to another base.
    func loadAdapter(_ path: String, base: BaseModel) throws -> AdapterParameters {
        try AdapterFile.read(path: path).parameters(for: base, path: path, allowsOtherBase: allowOtherBase)
    }
}
