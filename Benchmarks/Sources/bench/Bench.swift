import ArgumentParser
import CCeilings
import Foundation
import LoRAModel

/// Measures training and serving against what the machine can do, ceilings and work in the same run.
@main
struct Bench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure training and serving as a fraction of what this machine can do at best.",
        discussion: "Stop everything else first. Exits with 1 when a threshold does not hold.")

    @Option(help: "The base model.") var base = "models/base.bin"
    @Option(help: "A directory with train.jsonl, for the workload of real rows.") var data = "datasets/smart-home"
    @Option(help: "Threads of the workloads and of the ceilings.")
    var threads = ProcessInfo.processInfo.activeProcessorCount
    @Option(help: "Times that each workload is run, in turn; figures are medians over them (default: 3, growth: 1).")
    var rounds: Int?
    @Option(help: "Steps to measure of each workload, at most (growth: 3).") var steps: Int?
    @Option(help: ArgumentHelp("Run the workload of this name only; may be repeated.", valueName: "name"))
    var only: [String] = []
    @Option(help: "The bounds to check.") var thresholds = "Benchmarks/thresholds.json"
    @Option(help: ArgumentHelp("Write everything measured to this file.", valueName: "file")) var json: String?
    @Flag(help: "Print Markdown tables of growth with length, batch, rank, targets and threads instead.")
    var growth = false
    @Option(help: .hidden) var worker: String?

    func validate() throws {
        for (name, value) in [("--threads", threads), ("--rounds", rounds ?? 1), ("--steps", steps ?? 1)] {
            guard (1...64).contains(value) else { throw ValidationError("\(name) must be from 1 to 64") }
        }
        let names = planned.map(\.name)
        for name in only where !names.contains(name) {
            throw ValidationError("no workload \(name); there are \(names.joined(separator: ", "))")
        }
    }

    private var planned: [Workload] {
        growth ? Growth.workloads(threads: threads) : Workload.measured + Workload.served
    }

    func run() async throws {
        if let worker { return try await work(worker) }
        let workloads = planned.filter { $0.compute.isSupported && (only.isEmpty || only.contains($0.name)) }
        let names = Set(workloads.map(\.name))
        let thresholds = growth ? [] : try Threshold.read(thresholds).filter { $0.workloads.isSubset(of: names) }
        var arguments = ["--data", data, "--threads", "\(threads)"]
        if let steps = steps ?? (growth ? 3 : nil) { arguments += ["--steps", "\(steps)"] }
        var session = Session(
            configuration: try BaseModel(path: base).configuration, threads: threads,
            bases: try ConvertedBases(of: base), workerArguments: arguments)
        // Starting up is measured with the base in the page cache.
        _ = try Data(contentsOf: URL(fileURLWithPath: base))
        let bandwidth = ceiling_read(threads, 0.3)
        for _ in 0..<(rounds ?? (growth ? 1 : 3)) {
            for workload in workloads { try session.run(workload) }
        }
        let verdicts = thresholds.map { $0.verdict(session.outcomes) }
        let report = Report(
            threads: threads, readBandwidth: [bandwidth, ceiling_read(threads, 0.3)],
            outcomes: workloads.compactMap { session.outcomes[$0.name] }, thresholds: verdicts)
        let series = Growth.series(threads: threads)
        print(growth ? series.map { $0.markdown(session.outcomes) }.joined(separator: "\n\n") : report.text)
        if let json { try report.write(json) }
        if !verdicts.allSatisfy(\.holds) { throw ExitCode.failure }
    }

    private func work(_ name: String) async throws {
        let workloads = Workload.measured + Workload.served + Growth.workloads(threads: 64)
        guard let workload = workloads.first(where: { $0.name == name }) else {
            throw ValidationError("no workload \(name)")
        }
        let (threads, steps) = (workload.threads ?? threads, min(workload.steps, steps ?? .max))
        let measurement =
            if case .traffic(let clients) = workload.data {
                try await TrafficWorker(
                    workload: workload, base: base, clients: clients, threads: threads, steps: steps
                ).run()
            } else if workload.servedTokens != nil {
                try ServingWorker(workload: workload, base: base, threads: threads, steps: steps).run()
            } else {
                try Worker(workload: workload, base: base, data: data, threads: threads, steps: steps).run()
            }
        FileHandle.standardOutput.write(try JSONEncoder().encode(measurement))
    }
}
