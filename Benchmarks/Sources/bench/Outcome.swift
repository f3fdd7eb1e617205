/// All runs of one workload, one in each round.
struct Outcome: Encodable {
    let workload: String
    private(set) var runs: [Run] = []

    init(workload: String) { self.workload = workload }

    mutating func add(_ run: Run) { runs.append(run) }

    var isServing: Bool { runs.contains { $0.measurement.isServing } }
    var recomputes: Bool { runs.contains { $0.measurement.recomputes } }

    /// The median over the runs.
    subscript(figure: Figure) -> Double? { median(runs.compactMap(figure.value)) }

    /// The median over the rounds of this workload's figure divided by that of `other` in the same round.
    func ratio(_ figure: Figure, to other: Outcome) -> Double? {
        median(
            zip(runs, other.runs).compactMap { mine, theirs in
                figure.value(mine).flatMap { mine in figure.value(theirs).map { mine / $0 } }
            })
    }

    private enum CodingKeys: CodingKey {
        case workload, medians, runs
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(workload, forKey: .workload)
        let medians = Figure.allCases.compactMap { figure in self[figure].map { (figure.rawValue, $0) } }
        try container.encode(Dictionary(uniqueKeysWithValues: medians), forKey: .medians)
        try container.encode(runs, forKey: .runs)
    }
}

/// The smallest value that at least `share` of them do not exceed.
func percentile(_ values: [Double], _ share: Double) -> Double? {
    let sorted = values.sorted()
    guard !sorted.isEmpty else { return nil }
    return sorted[min(sorted.count - 1, max(0, Int((share * Double(sorted.count)).rounded(.up)) - 1))]
}

func median(_ values: [Double]) -> Double? {
    let sorted = values.sorted()
    let (lower, upper) = ((sorted.count - 1) / 2, sorted.count / 2)
    return sorted.isEmpty ? nil : (sorted[lower] + sorted[upper]) / 2
}
