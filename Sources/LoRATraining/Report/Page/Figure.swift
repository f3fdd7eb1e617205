/// A drawing with its title, caption and legend, and its numbers as a table for those who do not see it.
struct Figure {
    let id: String
    let title: String
    let caption: HTML
    var isWide = false
    var legend: [Series] = []

    func html(drawing: HTML, table: HTML) -> HTML {
        let entries = legend.count < 2 ? [] : legend
        let names = entries.map { "<li class=\"\($0.mark.rawValue) c\($0.colour)\">\($0.name)</li>" as HTML }
        let list: HTML = names.isEmpty ? "" : "<ul class=\"legend\">\(HTML.joined(names))</ul>"
        let kind: HTML = isWide ? #" class="wide""# : ""
        return """
            <figure\(kind)>
            <figcaption><h3 id="\(id)">\(title)</h3>\(list)<p id="\(id)-caption">\(caption)</p></figcaption>
            <div class="plot">\(drawing)</div>
            <p class="readout" aria-hidden="true"></p>
            <details><summary>Numbers<span class="hidden"> of \(title)</span></summary><div class="scroll">\(table)</div></details>
            </figure>
            """
    }
}
