/// A piece of a page. A string that goes into one is escaped; only literals and other pieces are markup, so that nothing
/// of a data set or of a model's answers can be.
struct HTML: Sendable, ExpressibleByStringInterpolation {
    let source: String

    private init(source: String) { self.source = source }
    init(stringLiteral value: String) { source = value }
    init(stringInterpolation: StringInterpolation) { source = stringInterpolation.source }

    struct StringInterpolation: StringInterpolationProtocol {
        fileprivate var source = ""

        init(literalCapacity: Int, interpolationCount: Int) { source.reserveCapacity(2 * literalCapacity) }

        mutating func appendLiteral(_ literal: String) { source += literal }
        mutating func appendInterpolation(_ html: HTML) { source += html.source }
        mutating func appendInterpolation(_ text: String) { source += HTML.escaped(text) }
        mutating func appendInterpolation(_ number: Int) { source += String(number) }
        /// A coordinate, to a tenth of a pixel.
        mutating func appendInterpolation(at coordinate: Double) { source += HTML.coordinate(coordinate) }
    }

    static func joined(_ pieces: some Sequence<HTML>) -> HTML {
        HTML(source: pieces.map(\.source).joined(separator: "\n"))
    }

    /// `text` as character data or in a quoted attribute. Control characters, which HTML forbids, become U+FFFD.
    private static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "'": result += "&#39;"
            case "\n", "\t": result.unicodeScalars.append(scalar)
            default:
                let isControl = scalar.properties.generalCategory == .control
                result.unicodeScalars.append(isControl ? "\u{FFFD}" : scalar)
            }
        }
        return result
    }

    /// To a tenth, without a fraction where there is none.
    static func coordinate(_ value: Double) -> String {
        let tenths = (value * 10).rounded() / 10
        return tenths == tenths.rounded() ? String(Int(tenths)) : String(tenths)
    }

    /// A table with a header row; cells of the first column head their rows.
    /// - Parameter textColumns: columns that hold words; the others hold numbers and are set to the right.
    static func table(_ header: [String], _ rows: [[String]], textColumns: Set<Int> = [0]) -> HTML {
        let kind = { (column: Int) -> HTML in textColumns.contains(column) ? "" : #" class="number""# }
        let head = header.indices.map { "<th scope=\"col\"\(kind($0))>\(header[$0])</th>" as HTML }
        let body = rows.map { row -> HTML in
            let cells = row.indices.map { column -> HTML in
                column == 0
                    ? "<th scope=\"row\"\(kind(column))>\(row[column])</th>"
                    : "<td\(kind(column))>\(row[column])</td>"
            }
            return "<tr>\(joined(cells))</tr>"
        }
        return "<table><thead><tr>\(joined(head))</tr></thead><tbody>\(joined(body))</tbody></table>"
    }
}
