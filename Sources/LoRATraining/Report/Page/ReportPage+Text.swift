/// Numbers, data, answers and options.
extension ReportPage {
    var summary: HTML? {
        let summary = content.summary
        let first = summary.losses.first ?? .nan
        let facts: [(name: String, value: String, note: String)] = [
            (
                "Training loss", NumberText.short(summary.losses.last ?? .nan),
                "\(NumberText.short(first)) at the first step"
            ),
            (
                "Validation loss", summary.validationLoss.map(NumberText.short) ?? "–",
                summary.validationLoss == nil ? "no validation data" : "of the adapter that was kept"
            ),
            (
                "Steps", NumberText.grouped(summary.steps),
                "adapter of step \(NumberText.grouped(summary.keptStep)) kept"
            ),
            (
                "Time in steps", NumberText.duration(summary.seconds),
                "\(NumberText.short(summary.tokensPerSecond)) tokens/s"
            ),
            (
                "Tokens", NumberText.grouped(summary.tokens),
                "\(NumberText.grouped(summary.supervisedTokens)) supervised"
            ),
            ("Peak memory", NumberText.bytes(Double(summary.peakResidentBytes)), "the mapped base with it"),
            (
                "Adapter", NumberText.bytes(Double(summary.adapterBytes)),
                "\(NumberText.grouped(content.parameterCount)) parameters"
            ),
        ]
        let tiles = facts.map { fact -> HTML in
            "<div><dt>\(fact.name)</dt><dd>\(fact.value)<small>\(fact.note)</small></dd></div>"
        }
        return """
            <section aria-labelledby="summary"><h2 id="summary" class="hidden">Summary</h2>
            <dl class="tiles">
            \(HTML.joined(tiles))
            </dl></section>
            """
    }

    var data: HTML? {
        let rows = content.data.map { split in
            [
                split.name, split.path, NumberText.grouped(split.examples), NumberText.grouped(split.tokens),
                NumberText.grouped(split.supervised), NumberText.short(100 * split.supervisedShare) + " %",
                NumberText.grouped(split.tooLong), NumberText.grouped(split.nothingSupervised),
            ]
        }
        let header = [
            "split", "file", "examples", "tokens", "supervised", "of tokens", "skipped: too long", "skipped: no answer",
        ]
        let table: HTML = """
            <div class="card wide scroll">\(HTML.table(header, rows, textColumns: [0, 1]))</div>
            """
        let charts = content.data.enumerated().map { index, split in
            BarChart(
                id: "lengths-\(index)", title: "Lengths of \(split.name) texts",
                caption: "Tokens of a text, and how many texts have so many; a pair of answers is two.",
                histogram: split.lengths, header: (bin: "tokens", count: "texts")
            ).figure
        }
        return section("data", "Data", [table] + charts)
    }

    var answers: HTML? {
        let cards = content.answers.map { answer -> HTML in
            """
            <article class="card wide">
            <h3>Line \(answer.line)</h3>
            <dl class="answer">
            <dt>asked</dt><dd dir="auto">\(Self.shortened(answer.prompt))</dd>
            <dt>expected</dt><dd dir="auto">\(Self.shortened(answer.expected))</dd>
            <dt>base</dt><dd dir="auto">\(Self.shortened(answer.base))\(verdict(answer.base, answer))</dd>
            <dt>adapter</dt><dd dir="auto">\(Self.shortened(answer.adapter))\(verdict(answer.adapter, answer))</dd>
            </dl>
            </article>
            """
        }
        let source = content.data.last?.name ?? "training"
        let note: HTML = """
            <p class="wide">Greedy answers to rows of the \(source) data, from the base alone and with the adapter.</p>
            """
        return section("answers", "Before and after", cards.isEmpty ? [] : [note] + cards)
    }

    private func verdict(_ text: String, _ answer: AnswerComparison) -> HTML {
        let isExact = Evaluation.trimmed(text) == Evaluation.trimmed(answer.expected)
        return isExact ? " <span class=\"exact\">✓ exact</span>" : ""
    }

    var options: HTML? {
        let rows = content.options.map { [$0.name, $0.value] }
        return section(
            "options", "How to make it again",
            [
                "<pre class=\"card wide\" tabindex=\"0\"><code>\(content.command)</code></pre>",
                """
                <details class="card wide"><summary>Options and counts, as the adapter's file has them</summary>\
                <div class="scroll">\(HTML.table(["name", "value"], rows, textColumns: [0, 1]))</div></details>
                """,
            ])
    }

    /// The beginning and the end of a long text.
    private static func shortened(_ text: String) -> String {
        Evaluation.trimmed(text.count <= 1200 ? text : "\(text.prefix(700))\n…\n\(text.suffix(400))")
    }
}
