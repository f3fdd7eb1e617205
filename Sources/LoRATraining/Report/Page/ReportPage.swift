internal import Crypto
internal import Foundation

/// The page about a run: one document without anything to fetch.
///
/// It carries a policy that lets its own style and script run and nothing else, so that text of a data set that should
/// get past the escaping still could not do anything.
struct ReportPage {
    let content: ReportContent

    var html: HTML {
        let sections = [summary, learning, gradients, change, machine, metrics, data, answers, options]
        return """
            <!doctype html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta http-equiv="Content-Security-Policy" content="\(Self.policy)">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <meta name="color-scheme" content="light dark">
            <title>\(content.domain) – training report</title>
            <link rel="icon" href="data:,">
            <style>\(Self.style)</style>
            </head>
            <body>
            \(header)
            <main>
            \(HTML.joined(sections.compactMap { $0 }))
            </main>
            <script>\(Self.script)</script>
            </body>
            </html>

            """
    }

    private static let policy: String = [
        "default-src 'none'", "style-src '\(digest(of: style))'", "script-src '\(digest(of: script))'",
        "img-src data:", "base-uri 'none'", "form-action 'none'",
    ].joined(separator: "; ")

    private static func digest(of html: HTML) -> String {
        "sha256-" + Data(SHA256.hash(data: Data(html.source.utf8))).base64EncodedString()
    }

    private var header: HTML {
        """
        <header>
        <h1>\(content.domain) <span>training report</span></h1>
        <p>An adapter of \(NumberText.grouped(content.parameterCount)) parameters for the base \(content.baseName), \
        written to <code>\(content.summary.adapterPath)</code>.</p>
        </header>
        """
    }

    /// A part of the page; nil when there is nothing in it.
    func section(_ id: String, _ title: String, _ parts: [HTML?]) -> HTML? {
        let parts = parts.compactMap { $0 }
        guard !parts.isEmpty else { return nil }
        return """
            <section aria-labelledby="\(id)">
            <h2 id="\(id)">\(title)</h2>
            <div class="parts">
            \(HTML.joined(parts))
            </div>
            </section>
            """
    }
}
