/// What a data set's file holds, for a report.
struct SplitStatistics {
    let name: String
    let path: String
    /// Rows; a pair of answers is one.
    let examples: Int
    let tokens: Int
    let supervised: Int
    let tooLong: Int
    let nothingSupervised: Int
    /// Tokens of each text, in bins of equal width.
    let lengths: Histogram

    init(_ name: String, _ dataset: Dataset) {
        self.name = name
        path = dataset.path
        examples = dataset.rowCount
        tokens = dataset.tokenCount
        supervised = dataset.supervisedCount
        tooLong = dataset.skips.tooLong.count
        nothingSupervised = dataset.skips.withoutAnswer.count
        lengths = Histogram(dataset.lengths().map { ($0.tokens, $0.examples) })
    }

    var supervisedShare: Double { Double(supervised) / Double(max(tokens, 1)) }
}

/// How many whole numbers fall into bins of equal width.
struct Histogram: Sendable {
    let width: Int
    /// Lower end of the first bin.
    let start: Int
    private(set) var counts: [Int]

    private static let bins = 40

    /// - Parameter values: each with how often it is there, in ascending order.
    init(_ values: [(value: Int, count: Int)]) {
        guard let lowest = values.first?.value, let highest = values.last?.value else {
            (width, start, counts) = (1, 0, [])
            return
        }
        let least = (highest - lowest) / Self.bins + 1
        // A round width, so that the ends of the bins read well.
        let width = sequence(first: 1) { $0 * 10 }.lazy.flatMap { [$0, 2 * $0, 5 * $0] }.first { $0 >= least } ?? least
        start = lowest / width * width
        counts = [Int](repeating: 0, count: (highest - start) / width + 1)
        self.width = width
        for (value, count) in values { counts[(value - start) / width] += count }
    }

    /// "64 – 71", or "7" for a bin of one.
    func label(_ bin: Int) -> String {
        let lower = start + bin * width
        return width == 1 ? "\(lower)" : "\(lower) – \(lower + width - 1)"
    }
}
