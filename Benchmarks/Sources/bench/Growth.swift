/// How speed and memory grow with each thing that a user may choose, the others held: the tables of
/// Documentation/performance.md.
struct Growth {
    struct Point {
        let label: String
        let workload: Workload
    }

    /// The heading of the first column.
    let axis: String
    let points: [Point]

    /// Those of all series, each once.
    static func workloads(threads: Int) -> [Workload] {
        var seen: Set<String> = []
        return series(threads: threads).flatMap(\.points).map(\.workload).filter { seen.insert($0.name).inserted }
    }

    static func series(threads: Int) -> [Growth] {
        let lengths = [256, 512, 1024, 2048, 4096, 8192]
        let (batches, ranks) = ([1, 2, 4, 8, 16], [4, 8, 16, 64, 256])
        return [
            Growth(axis: "one sequence of", lengths) {
                ("\($0) tokens", Workload(data: .random(examples: 1, length: $0)))
            },
            Growth(axis: "batch", batches) { ("\($0) x 256", Workload(data: .random(examples: $0, length: 256))) },
            Growth(axis: "rank on q, k, v, o", ranks) { ("\($0)", Workload(data: Workload.short, rank: $0)) },
            Growth(axis: "rank on all linear layers", ranks) {
                ("\($0)", Workload(data: Workload.short, rank: $0, targets: .allLinear))
            },
            Growth(axis: "targets, rank 8", [Workload.Targets.queryValue, .attention, .allLinear]) {
                ($0.rawValue, Workload(data: Workload.short, targets: $0))
            },
            Growth(axis: "threads", Array(1...threads)) {
                ("\($0)", Workload(data: Workload.short, threads: $0 == threads ? nil : $0))
            },
        ]
    }

    private init<Value>(axis: String, _ values: [Value], point: (Value) -> (String, Workload)) {
        self.axis = axis
        points = values.map { value in
            let (label, workload) = point(value)
            return Point(label: label, workload: workload)
        }
    }

    /// - Parameter outcomes: by the workload's name.
    func markdown(_ outcomes: [String: Outcome]) -> String {
        let rows = points.compactMap { point in
            outcomes[point.workload.name].map { outcome in
                let cells = [
                    point.label, format(outcome[.tokensPerSecond], digits: 0), percent(outcome[.ofCeiling]),
                    format(outcome[.peakMegabytes], digits: 0), outcome.recomputes ? "yes" : "no",
                ]
                return "| " + cells.joined(separator: " | ") + " |"
            }
        }
        return """
            | \(axis) | tokens/s | of the ceiling | peak MB | recomputes |
            | --- | --- | --- | --- | --- |
            \(rows.joined(separator: "\n"))
            """
    }
}
