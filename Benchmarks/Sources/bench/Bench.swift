import ArgumentParser
import CCeilings
import Foundation
import LoRAModel

/// Measures training against what the machine can do, ceilings and work in the same run.
@main
struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure training as a fraction of what this machine can do at best.",
        discussion: "Stop everything else first. Exits with 1 when a threshold does not hold.")

    @Option(help: "The base model.") var base = "models/base.bin"
    @Option(help: "A directory with train.jsonl, for the workload of real rows.") var data = "datasets/smart-home"
    @Option(help: "Threads of the workloads and of the ceilings.")
    var threads = ProcessInfo.processInfo.activeProcessorCount
    @Option(help: "Times that every workload is run, in turn; figures are medians over them.") var rounds = 3
    @Option(help: ArgumentHelp("Run workloads of these names only.", valueName: "name")) var only: [String] = []
    @Option(help: "The bounds to check.") var thresholds = "Benchmarks/thresholds.json"
    @Option(help: ArgumentHelp("Write everything measured to this file.", valueName: "file")) var json: String?
    @Flag(help: "Print Markdown tables of growth with length, batch, rank, targets and threads instead.")
    var growth = false
    @Option(help: .hidden) var worker: String?
    @Option(help: .hidden) var steps: Int?

    func validate() throws {
        guard (1...64).contains(threads) else { throw ValidationError("--threads must be from 1 to 64") }
        guard (1...100).contains(rounds) else { throw ValidationError("--rounds must be from 1 to 100") }
        let names = Set(Workload.measured.map(\.name))
        for name in only where !names.contains(name) {
            throw ValidationError("no workload \(name); there are \(names.sorted().joined(separator: ", "))")
        }
    }

    func run() throws {
        if let worker { return try work(worker) }
        let model = try BaseModel(path: base)
        // Starting up is measured with the base in the page cache.
        _ = try Data(contentsOf: URL(fileURLWithPath: base))
        var session = Session(bench: self, configuration: model.configuration)
        if growth {
            let series = Growth.series(threads: threads)
            for point in series.flatMap(\.points) where session.results[point.workload.name] == nil {
                try session.run(point.workload, steps: min(point.workload.steps, Growth.steps))
            }
            return print(series.map { $0.markdown(session.results) }.joined(separator: "\n\n"))
        }
        try measure(&session)
    }

    private func measure(_ session: inout Session) throws {
        let thresholds = try Threshold.read(thresholds)
        let workloads = Workload.measured.filter {
            $0.compute.isSupported && (only.isEmpty || only.contains($0.name))
        }
        let bandwidth = ceiling_read(threads, 0.3)
        for _ in 0..<rounds {
            for workload in workloads { try session.run(workload, steps: workload.steps) }
        }
        let results = workloads.compactMap { session.results[$0.name] }
        let verdicts = thresholds.map { $0.verdict(session.results) }.filter { only.isEmpty || $0.value != nil }
        let report = Report(
            threads: threads, readBandwidth: [bandwidth, ceiling_read(threads, 0.3)], results: results,
            thresholds: verdicts)
        show(report)
        if let json { try report.write(json) }
        if !verdicts.allSatisfy(\.holds) { throw ExitCode.failure }
    }

    private func show(_ report: Report) {
        let ceilings = [Compute.bf16, .f32].compactMap { compute in
            report.results.lazy.flatMap(\.runs).map(\.before).first { $0.compute == compute.rawValue }
        }
        print(
            """
            \(threads) threads; memory read \(report.readBandwidth.map { format($0, digits: 1) }.joined(separator: " and ")) \
            GB/s before and after.
            The library's product alone, \(Ceiling.rowsPerThread) rows a thread, the first time it was measured:

            \(Ceiling.table(ceilings))

            The machine drifts, so each run has ceilings of its own: the mean of one measured before it and one after it.
            Where these two lie apart (drift), something else ran. Figures are medians over the runs, each of its median
            step. The floor of a token is 4 operations for each weight, and attention; real rows have no such fraction,
            for the tokens that all rows of a batch begin with are computed once.

            \(Result.tables(report.results))

            \(report.thresholds.map(\.description).joined(separator: "\n"))
            """)
    }

    private func work(_ name: String) throws {
        let workloads = Workload.measured + Growth.series(threads: 64).flatMap(\.points).map(\.workload)
        guard let workload = workloads.first(where: { $0.name == name }) else {
            throw ValidationError("no workload \(name)")
        }
        let worker = Worker(
            workload: workload, base: base, data: data, threads: workload.threads ?? threads,
            steps: steps ?? workload.steps)
        FileHandle.standardOutput.write(try JSONEncoder().encode(worker.run()))
    }
}

/// Runs workloads one after another, each in a process of its own between two measurements of the ceiling.
struct Session {
    let bench: Bench
    let configuration: ModelConfiguration
    /// By the workload's name.
    private(set) var results: [String: Result] = [:]

    init(bench: Bench, configuration: ModelConfiguration) {
        self.bench = bench
        self.configuration = configuration
    }

    mutating func run(_ workload: Workload, steps: Int) throws {
        FileHandle.standardError.write(Data("\(workload.name)\n".utf8))
        let threads = workload.threads ?? bench.threads
        let before = Ceiling(configuration, workload.compute, threads: threads)
        let measurement = try measure(workload, steps: steps)
        let after = Ceiling(configuration, workload.compute, threads: threads)
        results[workload.name, default: Result(workload: workload.name)]
            .add(Run(measurement: measurement, before: before, after: after))
    }

    private func measure(_ workload: Workload, steps: Int) throws -> Measurement {
        let process = Process()
        process.executableURL = Bundle.main.executableURL
        process.arguments = [
            "--worker", workload.name, "--base", bench.base, "--data", bench.data, "--threads", "\(bench.threads)",
            "--steps", "\(steps)",
        ]
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let output = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw ValidationError("the worker of \(workload.name) ended with status \(process.terminationStatus)")
        }
        return try JSONDecoder().decode(Measurement.self, from: output)
    }
}
