/// A figure over the steps of a run.
struct Series: Sendable {
    enum Mark: String { case line, faint, dots }

    let name: String
    let mark: Mark
    /// Which of the page's colours, from 1.
    let colour: Int
    /// In their order; a value belongs to the step at its place.
    let steps: [Int]
    let values: [Double]

    /// Leaves out what is not finite.
    init(_ name: String, mark: Mark = .line, colour: Int = 1, _ points: [(step: Int, value: Double)]) {
        let finite = points.filter(\.value.isFinite)
        self.name = name
        self.mark = mark
        self.colour = colour
        steps = finite.map(\.step)
        values = finite.map(\.value)
    }

    var points: [(step: Int, value: Double)] { Array(zip(steps, values).map { (step: $0, value: $1) }) }

    /// At most `count` points, each the mean of as many consecutive ones, at the last one's step.
    func binned(to count: Int) -> Series {
        guard steps.count > count else { return self }
        let size = (steps.count + count - 1) / count
        let starts = stride(from: 0, to: steps.count, by: size)
        return Series(
            name, mark: mark, colour: colour,
            starts.map { start in
                let range = start..<min(start + size, steps.count)
                return (steps[range.upperBound - 1], values[range].reduce(0, +) / Double(range.count))
            })
    }

    /// The exponential average over about `span` points, corrected for its start as Adam's moments are
    /// (arXiv 1412.6980), which TensorBoard does too.
    func smoothed(_ name: String, span: Int) -> Series {
        let keep = 1 - 1 / Double(max(span, 1))
        var (sum, weight) = (0.0, 0.0)
        return Series(
            name, mark: .line, colour: colour,
            points.map { point in
                sum = keep * sum + (1 - keep) * point.value
                weight = keep * weight + (1 - keep)
                return (point.step, sum / weight)
            })
    }
}
