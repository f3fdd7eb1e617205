/// A histogram as an SVG drawing with a table of its numbers.
struct BarChart {
    let id: String
    let title: String
    let caption: String
    let histogram: Histogram
    /// What is counted, and what along, for the table's header.
    let header: (bin: String, count: String)

    var figure: HTML {
        let end = histogram.start + histogram.width * histogram.counts.count
        let frame = PlotFrame(
            width: 544, height: 220, x: Axis(steps: histogram.start, end, tickCount: 6),
            y: Axis(histogram.counts.map(Double.init), includesZero: true, tickCount: 4), unit: header.bin)
        let bars = histogram.counts.enumerated().map { bin, count -> HTML in
            let left = frame.left + frame.x.position(Double(histogram.start + bin * histogram.width)) * frame.plotWidth
            let width = frame.plotWidth * Double(histogram.width) / Double(end - histogram.start)
            let height = frame.y.position(Double(count)) * frame.plotHeight
            return """
                <rect class="bar" x="\(at: left)" y="\(at: frame.top + frame.plotHeight - height)" \
                width="\(at: max(width - 1, 0.5))" height="\(at: height)">\
                <title>\(histogram.label(bin)) \(header.bin): \(NumberText.grouped(count)) \(header.count)</title></rect>
                """
        }
        let rows = histogram.counts.enumerated().filter { $1 > 0 }.map { bin, count in
            [histogram.label(bin), NumberText.grouped(count)]
        }
        return Figure(id: id, title: title, caption: "\(caption)").html(
            drawing: frame.svg(id: id, content: HTML.joined(bars), NumberText.short),
            table: HTML.table([header.bin, header.count], rows, textColumns: []))
    }
}
