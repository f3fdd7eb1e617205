internal import Foundation

/// Values of a grid as shades of one colour, as an SVG drawing with a table of its numbers.
struct HeatMap {
    let id: String
    let title: String
    let caption: String
    let rows: [String]
    let columns: [String]
    /// By row and column; nil where there is none.
    let values: [[Double?]]
    /// Ticks along the columns: which column, and what is said there.
    let columnTicks: [(column: Int, text: String)]
    /// Columns of the table of numbers; nil for all.
    let tableColumns: [Int]?

    private static let (width, left, right, top, bottom) = (1120.0, 84.0, 14.0, 6.0, 26.0)
    /// Shades between nothing and the largest value; cells of a shade are one path, which keeps the page small.
    private static let shades = 24

    /// The values of the palest and of the darkest shade. Values of several magnitudes need a logarithmic scale to be
    /// told apart; it ends at a thousandth.
    private let range: (lowest: Double, highest: Double)
    private let isLogarithmic: Bool

    init(
        id: String, title: String, caption: String, rows: [String], columns: [String], values: [[Double?]],
        columnTicks: [(column: Int, text: String)], tableColumns: [Int]? = nil
    ) {
        self.id = id
        self.title = title
        self.caption = caption
        self.rows = rows
        self.columns = columns
        self.values = values
        self.columnTicks = columnTicks
        self.tableColumns = tableColumns
        let positive = values.joined().compactMap { $0 }.filter { $0.isFinite && $0 > 0 }
        let (lowest, highest) = (positive.min() ?? 0, positive.max() ?? 0)
        isLogarithmic = highest > 30 * lowest
        range = (isLogarithmic ? max(lowest, highest / 1000) : 0, highest)
    }

    private var cellWidth: Double { (Self.width - Self.left - Self.right) / Double(max(columns.count, 1)) }
    private var cellHeight: Double { min(26, max(8, 300 / Double(max(rows.count, 1)))) }
    private var height: Double { Self.top + cellHeight * Double(rows.count) + Self.bottom }

    var figure: HTML {
        let scale: HTML = """
            <span class="scale"><span>\(NumberText.short(range.lowest))</span>\
            <svg viewBox="0 0 120 10" aria-hidden="true">\(ramp)</svg>\
            <span>\(NumberText.short(range.highest))</span></span>
            """
        let note: HTML = isLogarithmic ? " Logarithmic scale." : ""
        return Figure(id: id, title: title, caption: "\(caption)\(note) \(scale)", isWide: true)
            .html(drawing: drawing, table: table)
    }

    private var ramp: HTML {
        HTML.joined(
            (1...Self.shades).map { shade in
                let step = 120 / Double(Self.shades)
                return """
                    <path class="cells" fill-opacity="\(Self.opacity(shade))" \
                    d="M\(at: Double(shade - 1) * step) 0h\(at: step)v10h-\(at: step)z"/>
                    """
            })
    }

    private var drawing: HTML {
        // Labels that would overlap are left out.
        let every = max(1, Int((13 / cellHeight).rounded(.up)))
        let rowLabels = rows.indices.filter { $0 % every == 0 }.map { row -> HTML in
            let at = Self.top + (Double(row) + 0.5) * cellHeight + 4
            return "<text class=\"y\" x=\"\(at: Self.left - 8)\" y=\"\(at: at)\">\(rows[row])</text>"
        }
        let columnLabels = columnTicks.map { tick -> HTML in
            let at = Self.left + (Double(tick.column) + 0.5) * cellWidth
            return "<text class=\"x\" x=\"\(at: at)\" y=\"\(at: height - 8)\">\(tick.text)</text>"
        }
        let texts = values.map { row in row.map { $0.map(NumberText.short) ?? "" }.joined(separator: "|") }
        return """
            <svg class="heat" viewBox="0 0 \(at: Self.width) \(at: height)" role="img" aria-labelledby="\(id)" \
            aria-describedby="\(id)-caption" data-left="\(at: Self.left)" data-top="\(at: Self.top)" \
            data-width="\(String(cellWidth))" data-height="\(String(cellHeight))" \
            data-rows="\(rows.joined(separator: "|"))" data-columns="\(columns.joined(separator: "|"))" \
            data-values="\(texts.joined(separator: ";"))">
            <rect class="ground" x="\(at: Self.left)" y="\(at: Self.top)" \
            width="\(at: cellWidth * Double(columns.count))" height="\(at: cellHeight * Double(rows.count))"/>
            \(HTML.joined(paths))
            \(HTML.joined(rowLabels))\(HTML.joined(columnLabels))
            </svg>
            """
    }

    private var paths: [HTML] {
        var cells = [String](repeating: "", count: Self.shades + 1)
        // Small cells touch: gaps between them would be of uneven width.
        let gap = cellHeight > 12 ? 1.0 : 0
        for (row, line) in values.enumerated() {
            for (column, value) in line.enumerated() {
                guard let value, value.isFinite, value > 0 else { continue }
                let (x, y) = (edge(column, cellWidth, Self.left), edge(row, cellHeight, Self.top))
                let w = HTML.coordinate(edge(column + 1, cellWidth, Self.left) - x - gap)
                let h = HTML.coordinate(edge(row + 1, cellHeight, Self.top) - y - gap)
                cells[shade(of: value)] += "M\(HTML.coordinate(x)) \(HTML.coordinate(y))h\(w)v\(h)h-\(w)z"
            }
        }
        return cells.enumerated().filter { !$1.isEmpty }.map { shade, path in
            "<path class=\"cells\" fill-opacity=\"\(Self.opacity(shade))\" d=\"\(path)\"/>"
        }
    }

    /// Where a cell begins, rounded as it is written, so that neighbours meet.
    private func edge(_ index: Int, _ size: Double, _ start: Double) -> Double {
        ((start + Double(index) * size) * 10).rounded() / 10
    }

    private func shade(of value: Double) -> Int {
        let part = isLogarithmic ? log(value / range.lowest) / log(range.highest / range.lowest) : value / range.highest
        return min(max(Int((part * Double(Self.shades)).rounded(.up)), 1), Self.shades)
    }

    private static func opacity(_ shade: Int) -> String {
        String(((0.04 + 0.96 * Double(shade) / Double(shades)) * 100).rounded() / 100)
    }

    private var table: HTML {
        let shown = tableColumns ?? Array(columns.indices)
        return HTML.table(
            [""] + shown.map { columns[$0] },
            rows.indices.map { row in [rows[row]] + shown.map { values[row][$0].map(NumberText.short) ?? "" } })
    }
}
