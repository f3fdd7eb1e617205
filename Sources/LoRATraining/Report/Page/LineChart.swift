/// Lines over the steps of a run, as an SVG drawing with a table of its numbers.
struct LineChart {
    let id: String
    let title: String
    let caption: String
    let series: [Series]
    var isWide = false
    var scale = Axis.Scale.linear
    var includesZero = false
    var describe: (Double) -> String = NumberText.short

    /// Points of a line at most; more would not be seen.
    private static let points = 500
    /// Rows of the table of numbers at most, beside those of the sparsest series.
    private static let tableRows = 25

    var figure: HTML {
        let series = series.filter { !$0.steps.isEmpty }
        let frame = PlotFrame(
            width: isWide ? 1120 : 544, height: isWide ? 300 : 220,
            x: Axis(
                steps: series.compactMap(\.steps.first).min() ?? 0, series.compactMap(\.steps.last).max() ?? 1,
                tickCount: isWide ? 10 : 5),
            y: Axis(series.flatMap(\.values), scale: scale, includesZero: includesZero, tickCount: isWide ? 6 : 4),
            unit: "step")
        let drawn = series.map { $0.binned(to: Self.points) }
        let note: HTML = scale == .logarithmic ? " Logarithmic scale." : ""
        return Figure(id: id, title: title, caption: "\(caption)\(note)", isWide: isWide, legend: series)
            .html(
                drawing: frame.svg(id: id, content: HTML.joined(drawn.map { line($0, frame) }), describe), table: table)
    }

    private func line(_ series: Series, _ frame: PlotFrame) -> HTML {
        let pixels = zip(series.steps, series.values).map { step, value in
            (
                x: frame.left + frame.x.position(Double(step)) * frame.plotWidth,
                y: frame.top + (1 - frame.y.position(value)) * frame.plotHeight
            )
        }
        let data: HTML = """
            data-name="\(series.name)" data-steps="\(series.steps.map(String.init).joined(separator: " "))" \
            data-x="\(pixels.map { HTML.coordinate($0.x) }.joined(separator: " "))" \
            data-values="\(series.values.map { describe($0) }.joined(separator: "|"))"
            """
        let path = pixels.map { "\(HTML.coordinate($0.x)),\(HTML.coordinate($0.y))" }.joined(separator: " ")
        let hasDots = series.mark == .dots || pixels.count == 1
        let dots = hasDots ? pixels.map { "<circle cx=\"\(at: $0.x)\" cy=\"\(at: $0.y)\" r=\"3.5\"/>" as HTML } : []
        return """
            <g class="series \(series.mark.rawValue) c\(series.colour)" \(data)>\
            <polyline points="\(path)"/>\(HTML.joined(dots))</g>
            """
    }

    /// Steps evenly apart, the first and the last with them.
    private var table: HTML {
        let shown = Set(series.flatMap { Self.sample($0.steps) }).sorted()
        let values = series.map { Dictionary(zip($0.steps, $0.values)) { $1 } }
        return HTML.table(
            ["step"] + series.map(\.name),
            shown.map { step in [String(step)] + values.map { $0[step].map(describe) ?? "" } }, textColumns: [])
    }

    private static func sample(_ steps: [Int]) -> [Int] {
        guard steps.count > tableRows else { return steps }
        return (0..<tableRows).map { steps[$0 * (steps.count - 1) / (tableRows - 1)] }
    }
}
