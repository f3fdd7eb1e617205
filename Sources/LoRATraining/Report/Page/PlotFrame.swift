/// The axes, ticks and grid of a chart, in pixels.
struct PlotFrame {
    let width: Double
    let height: Double
    let x: Axis
    let y: Axis
    /// What x counts.
    let unit: String
    let left = 58.0
    let right = 14.0
    let top = 10.0
    let bottom = 28.0

    var plotWidth: Double { width - left - right }
    var plotHeight: Double { height - top - bottom }

    /// The drawing: grid, `content`, and a line that follows the pointer.
    /// - Parameter describe: the text of a tick of y.
    func svg(id: String, content: HTML, _ describe: (Double) -> String) -> HTML {
        let horizontal = y.ticks.map { tick -> HTML in
            let at = top + (1 - y.position(tick)) * plotHeight
            return """
                <line class="grid" x1="\(at: left)" x2="\(at: width - right)" y1="\(at: at)" y2="\(at: at)"/>\
                <text class="y" x="\(at: left - 8)" y="\(at: at + 4)">\(describe(tick))</text>
                """
        }
        let vertical = x.ticks.map { tick -> HTML in
            let at = left + x.position(tick) * plotWidth
            return """
                <text class="x" x="\(at: at)" y="\(at: height - 8)">\(NumberText.grouped(Int(tick)))</text>
                """
        }
        return """
            <svg viewBox="0 0 \(at: width) \(at: height)" role="img" aria-labelledby="\(id)" \
            aria-describedby="\(id)-caption">
            \(HTML.joined(horizontal))\(HTML.joined(vertical))
            <text class="y" x="\(at: left - 8)" y="\(at: height - 8)">\(unit)</text>
            \(content)
            <line class="pointer" x1="0" x2="0" y1="\(at: top)" y2="\(at: height - bottom)"/>
            </svg>
            """
    }
}
