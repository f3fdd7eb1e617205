import CCeilings
import Foundation

/// Measures training against what the machine can do, ceilings and work in the same run.
///
///     bench --base models/base.bin --data datasets/smart-home [--threads N] [--json FILE] [--only NAME]
struct Options {
    var base = "models/base.bin"
    var data = "datasets/smart-home"
    var threads = ProcessInfo.processInfo.activeProcessorCount
    var json: String?
    var only: String?
    var worker: String?

    init(_ arguments: [String]) {
        var rest = arguments[...]
        while let name = rest.popFirst() {
            guard let value = rest.popFirst() else { Options.usage("\(name) needs a value") }
            switch name {
            case "--base": base = value
            case "--data": data = value
            case "--threads": threads = Int(value) ?? threads
            case "--json": json = value
            case "--only": only = value
            case "--worker": worker = value
            default: Options.usage("unknown option \(name)")
            }
        }
    }

    static func usage(_ message: String) -> Never {
        FileHandle.standardError.write(Data("bench: \(message)\n".utf8))
        exit(64)
    }
}

struct Report: Codable {
    let threads: Int
    let productBF16: Double
    let productF32: Double
    let readBandwidth: Double
    let results: [Workload.Result]
}

/// A workload in a process of its own.
func measure(_ name: String, _ options: Options) throws -> Workload.Result {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: CommandLine.arguments[0])
    process.arguments = [
        "--worker", name, "--base", options.base, "--data", options.data, "--threads", String(options.threads),
    ]
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let output = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return try JSONDecoder().decode(Workload.Result.self, from: output)
}

let options = Options(Array(CommandLine.arguments.dropFirst()))
let workloads = Workload.all(dataset: options.data)
if let worker = options.worker {
    guard let workload = workloads.first(where: { $0.name == worker }) else { Options.usage("no workload \(worker)") }
    let result = try workload.run(base: options.base, threads: options.threads)
    FileHandle.standardOutput.write(try JSONEncoder().encode(result))
    exit(0)
}

// The ceilings are those of this model's most frequent shape, each thread with its share of the rows.
let bf16 = ceiling_product(1, options.threads, 512, 1536, 576, 1)
let f32 = ceiling_product(0, options.threads, 512, 1536, 576, 1)
let bandwidth = ceiling_read(options.threads, 1)
print(
    String(
        format: "ceilings, %d threads: bf16 %.0f GFLOP/s, f32 %.0f GFLOP/s, read %.1f GB/s", options.threads, bf16, f32,
        bandwidth))
print("workload                        tokens/s  of ceiling  step s  forward  loss  backward  peak MB  start s")
var results: [Workload.Result] = []
for workload in workloads where options.only.map({ $0 == workload.name }) ?? true {
    let result = try measure(workload.name, options)
    results.append(result)
    let ceiling = workload.compute == .bf16 ? bf16 : f32
    print(
        result.name.padding(toLength: 30, withPad: " ", startingAt: 0)
            + String(
                format: "%10.0f  %9.0f%%  %6.3f  %7.3f %5.3f  %8.3f  %7.0f  %7.2f", result.tokensPerSecond,
                100 * result.tokensPerSecond * result.gigaflopsPerToken / ceiling, result.stepSeconds,
                result.forwardSeconds, result.lossSeconds, result.backwardSeconds,
                Double(result.peakResidentBytes) / 1e6, result.secondsToFirstStep))
}
if let path = options.json {
    let report = Report(
        threads: options.threads, productBF16: bf16, productF32: f32, readBandwidth: bandwidth, results: results)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    try encoder.encode(report).write(to: URL(fileURLWithPath: path))
}
