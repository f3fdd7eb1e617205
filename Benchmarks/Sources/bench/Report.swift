import Foundation

/// Everything measured.
struct Report: Encodable {
    let threads: Int
    /// GB/s, before and after everything.
    let readBandwidth: [Double]
    let outcomes: [Outcome]
    let thresholds: [Threshold.Verdict]

    /// For people: ceilings, outcomes, verdicts.
    var text: String {
        let ceilings = ["bf16", "f32"].compactMap { compute in
            outcomes.lazy.flatMap(\.runs).map(\.before).first { $0.compute == compute }
        }
        let bandwidth = readBandwidth.map { format($0, digits: 1) }.joined(separator: " and ")
        return """
            \(threads) threads. Memory read before and after everything: \(bandwidth) GB/s.
            The library's product alone, \(Ceiling.rowsPerThread) rows a thread, the first time it was measured:

            \(Ceiling.table(ceilings))

            The machine drifts, so each run has ceilings of its own: the mean of one measured before it and one after it.
            Where these two lie apart (drift), something else ran. Figures are medians over the runs, each of its median
            step. The floor of a token is 4 operations for each weight, and attention; real rows have no such fraction,
            for the tokens that all rows of a batch begin with are computed once. Decoding reads all weights once for a
            token of every stream: its limit is what memory gives, which is measured before and after each step; the fraction is
            the median of the steps', each by its own limit. That of prefill is 2 operations for each weight, and attention.

            \(Outcome.tables(outcomes))

            \(thresholds.map(\.description).joined(separator: "\n"))
            """
    }

    func write(_ path: String) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        try encoder.encode(self).write(to: URL(fileURLWithPath: path), options: .atomic)
    }
}

extension Ceiling {
    /// GFLOP/s by shape.
    static func table(_ ceilings: [Ceiling]) -> String {
        let shapes = ceilings.first?.shapes ?? []
        var table = TextTable(header: ["GFLOP/s"] + shapes.map { "\($0.N)x\($0.K)" } + ["all"])
        for ceiling in ceilings {
            let row = { (name: String, rate: (Shape) -> Double, all: Double) in
                ["\(ceiling.compute), \(name)"] + (ceiling.shapes.map(rate) + [all]).map { format($0, digits: 0) }
            }
            table.rows.append(row("row-major weights", \.rowMajor, ceiling.rowMajor))
            table.rows.append(row("oneDNN's own layout", \.blocked, ceiling.blocked))
        }
        return table.text
    }
}

extension Outcome {
    private typealias Column = (title: String, cell: @Sendable (Outcome) -> String)

    private static let speed: [Column] = [
        ("workload", { $0.workload }),
        ("tokens/s", { format($0[.tokensPerSecond], digits: 0) }),
        ("fastest", { format($0[.fastestTokensPerSecond], digits: 0) }),
        ("ceiling", { format($0[.ceiling], digits: 0) }),
        ("of it", { percent($0[.ofCeiling]) }),
        ("own layout", { format($0[.blockedCeiling], digits: 0) }),
        ("of it", { percent($0[.ofBlockedCeiling]) }),
        ("drift", { percent($0[.ceilingDrift]) }),
        ("peak MB", { format($0[.peakMegabytes], digits: 0) }),
        ("recomputes", { $0.recomputes ? "yes" : "no" }),
        ("runs x steps", { "\($0.runs.count) x \(($0.runs.first?.measurement.steps.count ?? 1) - 1)" }),
    ]

    private static let serving: [Column] = [
        ("serving", { $0.workload }),
        ("tokens/s", { format($0[.tokensPerSecond], digits: 0) }),
        ("fastest", { format($0[.fastestTokensPerSecond], digits: 0) }),
        ("GB/s", { format($0[.readBandwidth], digits: 1) }),
        ("of it", { percent($0[.ofBandwidth]) }),
        ("GFLOP/s", { format($0[.ceiling], digits: 0) }),
        ("of it", { percent($0[.ofCeiling]) }),
        ("drift", { percent($0[.ceilingDrift]) }),
        ("peak MB", { format($0[.peakMegabytes], digits: 0) }),
        ("runs x steps", { "\($0.runs.count) x \(($0.runs.first?.measurement.steps.count ?? 1) - 1)" }),
    ]

    private static let waits: [Column] = [
        ("clients, ms", { $0.workload }),
        ("tokens/s", { format($0[.tokensPerSecond], digits: 0) }),
        ("first text p50", { format($0[.firstText50], digits: 0) }),
        ("p99", { format($0[.firstText99], digits: 0) }),
        ("gap p50", { format($0[.gap50], digits: 1) }),
        ("p99", { format($0[.gap99], digits: 1) }),
    ]

    private static let seconds: [Column] = [
        ("seconds", { $0.workload }),
        ("step", { format($0[.stepSeconds], digits: 3) }),
        ("forward", { format($0[.forwardSeconds], digits: 3) }),
        ("loss", { format($0[.lossSeconds], digits: 3) }),
        ("backward", { format($0[.backwardSeconds], digits: 3) }),
        ("optimizer", { format($0[.optimizerSeconds], digits: 4) }),
        ("data", { format($0[.dataSeconds], digits: 4) }),
        ("start to first step", { format($0[.secondsToFirstStep], digits: 2) }),
        ("to its end", { format($0[.secondsToFirstStepEnd], digits: 2) }),
    ]

    /// What training reached, below it where the time went, what serving reached, and what its clients waited for.
    static func tables(_ outcomes: [Outcome]) -> String {
        let waiting = outcomes.filter { $0[.gap50] != nil }
        let training = outcomes.filter { !$0.isServing }
        let passes = outcomes.filter { $0.isServing && $0[.gap50] == nil }
        return [(speed, training), (seconds, training), (serving, passes), (waits, waiting)].map { columns, outcomes in
            let rows = outcomes.map { outcome in columns.map { $0.cell(outcome) } }
            return TextTable(header: columns.map(\.title), rows: rows).text
        }.joined(separator: "\n\n")
    }
}
