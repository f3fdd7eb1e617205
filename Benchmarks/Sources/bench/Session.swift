import Foundation
import LoRAModel

/// Runs workloads one after another, each in a process of its own between two measurements of the ceiling.
struct Session {
    let configuration: ModelConfiguration
    let threads: Int
    private let bases: ConvertedBases
    /// What every worker is told beside its workload and its base.
    let workerArguments: [String]
    /// By the workload's name.
    private(set) var outcomes: [String: Outcome] = [:]

    init(
        configuration: ModelConfiguration, threads: Int, bases: ConvertedBases, workerArguments: [String]
    ) {
        self.configuration = configuration
        self.threads = threads
        self.bases = bases
        self.workerArguments = workerArguments
    }

    mutating func run(_ workload: Workload) throws {
        FileHandle.standardError.write(Data("running \(workload.name)\n".utf8))
        let threads = workload.threads ?? threads
        let base = try bases.path(workload.type)
        let before = Ceiling(configuration, workload.compute, threads: threads)
        let measurement = try measure(workload, base: base)
        let after = Ceiling(configuration, workload.compute, threads: threads)
        outcomes[workload.name, default: Outcome(workload: workload.name)]
            .add(Run(measurement: measurement, before: before, after: after))
    }

    private func measure(_ workload: Workload, base: String) throws -> Measurement {
        let process = Process()
        process.executableURL = Bundle.main.executableURL
        process.arguments = ["--worker", workload.name, "--base", base] + workerArguments
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let output = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw WorkerError(workload: workload.name, status: process.terminationStatus)
        }
        return try JSONDecoder().decode(Measurement.self, from: output)
    }
}

struct WorkerError: Error, CustomStringConvertible {
    let workload: String
    let status: Int32

    var description: String { "the process that ran \(workload) ended with status \(status)" }
}
