import Crypto
import Foundation

/// The page at `GET /`: one prompt, two models, their answers side by side, and a table of the adapters.
///
/// It is one document without anything to fetch: the command needs no files beside it, and the browser may be told to
/// load nothing else.
enum Playground {
    static let html = """
        <!doctype html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <title>lora playground</title>
        <link rel="icon" href="data:,">
        <style>\(style)</style>
        </head>
        <body>
        \(body)
        <script>\(script)</script>
        </body>
        </html>
        """

    /// Lets the page's own style and script run and talk to this server, and nothing else.
    static let contentSecurityPolicy = [
        "default-src 'none'",
        "style-src '\(digest(of: style))'",
        "script-src '\(digest(of: script))'",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ].joined(separator: "; ")

    private static func digest(of source: String) -> String {
        "sha256-" + Data(SHA256.hash(data: Data(source.utf8))).base64EncodedString()
    }

    private static let body = #"""
        <header>
        <h1>lora <span>playground</span></h1>
        <p id="summary"></p>
        <form id="access" hidden>
        <label>API key <input id="key" type="password" autocomplete="off" spellcheck="false" required></label>
        <button type="submit">Use key</button>
        </form>
        </header>
        <main>
        <form id="ask" aria-label="Prompt">
        <label class="wide">System message <small>(optional)</small>
        <textarea id="system" rows="1"></textarea></label>
        <label class="wide">Prompt
        <textarea id="prompt" rows="2" required></textarea></label>
        <div class="settings">
        <label>Temperature <input id="temperature" type="number" min="0" max="2" step="0.1" value="0" required></label>
        <label>Max tokens <input id="limit" type="number" min="1" step="1" value="128" required></label>
        <label>Seed <input id="seed" type="number" step="1" placeholder="random"></label>
        <p class="hint"><kbd>Ctrl</kbd> <kbd>Enter</kbd> sends, <kbd>Esc</kbd> stops</p>
        <button id="send" type="submit" class="primary">Send</button>
        </div>
        </form>
        <p id="status" role="status"></p>
        <section id="answers" aria-label="Answers"></section>
        <section class="adapters" aria-labelledby="adapters">
        <h2 id="adapters">Adapters</h2>
        <p id="note"></p>
        <div class="scroll" role="region" aria-label="Table of adapters" tabindex="0">
        <table aria-labelledby="adapters">
        <thead><tr>
        <th scope="col">Name</th>
        <th scope="col">Version</th>
        <th scope="col" class="number">Size</th>
        <th scope="col" class="number">Rank</th>
        <th scope="col" class="number">Requests</th>
        <th scope="col">Last swap</th>
        <th scope="col">State</th>
        </tr></thead>
        <tbody id="rows"></tbody>
        </table>
        </div>
        </section>
        </main>
        <template id="answer">
        <article>
        <div class="choice">
        <label><span data-is="title"></span> <select data-is="model"></select></label>
        <button type="button" data-is="stop" aria-disabled="true">Stop</button>
        </div>
        <div class="text" data-is="text"></div>
        <dl>
        <div><dt>First token</dt><dd data-is="first"></dd></div>
        <div><dt>Speed</dt><dd data-is="speed"></dd></div>
        <div><dt>Prompt</dt><dd data-is="prompt"></dd></div>
        <div><dt>Answer</dt><dd data-is="length"></dd></div>
        </dl>
        </article>
        </template>
        <noscript><p>This page needs JavaScript.</p></noscript>
        """#
}
