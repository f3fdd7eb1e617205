internal import LoRAModel
internal import LoRAText

/// What the base and the adapter answer to one row.
struct AnswerComparison: Sendable {
    let line: Int
    /// The prompt without what the template puts around all of them.
    let prompt: String
    let expected: String
    let base: String
    let adapter: String

    /// Questions of a report.
    private static let count = 5
    /// Longer prompts would take long and fill the page.
    private static let longestPrompt = 768
    private static let longestAnswer = 96

    /// The last answer of a row, and what comes before it.
    private struct Question {
        let line: Int
        let prompt: [Int32]
        let answer: [Int32]

        /// Nil where nothing comes before the answer, as in plain text.
        init?(_ example: Example) {
            guard let last = example.supervised.lastIndex(of: true) else { return nil }
            let start = example.supervised[..<last].lastIndex(of: false).map { $0 + 1 } ?? 0
            guard start > 1 else { return nil }
            line = example.line
            prompt = Array(example.tokens[..<start])
            answer = Array(example.tokens[start...last])
        }
    }

    /// The greedy answers to some rows, evenly spread over `examples`; fewer, or none, where prompts are long.
    /// - Throws: `FormatError` when the memory cannot be had.
    static func make(
        _ examples: some RandomAccessCollection<Example>, setup: TrainingSetup, pool: ThreadPool
    ) throws -> [AnswerComparison] {
        let limit = min(longestPrompt, setup.base.configuration.contextLength - longestAnswer)
        let asked = spread(examples, count).compactMap(Question.init).filter { $0.prompt.count <= limit }
        guard let longest = asked.map(\.prompt.count).max() else { return [] }
        let generator = try Generator(
            model: setup.base, pool: pool, compute: setup.options.compute, slots: count,
            positions: longest + longestAnswer)
        let answers = { (adapter: AdapterParameters?) -> [String] in
            let requests = asked.map {
                Generator.Request(
                    prompt: $0.prompt, adapter: adapter, endIDs: setup.tokenizer.endIDs, maximumTokens: longestAnswer)
            }
            return generator.run(requests).map { tokens in
                let text = setup.tokenizer.decode(tokens)
                return tokens.count < longestAnswer ? text : text + " …"
            }
        }
        let (base, adapter) = (answers(nil), answers(setup.adapter.resolved(for: setup.base, pool: pool)))
        let prompts = withoutFrame(asked.map { setup.tokenizer.decode($0.prompt) })
        return asked.indices.map { index in
            AnswerComparison(
                line: asked[index].line, prompt: prompts[index], expected: setup.tokenizer.decode(asked[index].answer),
                base: base[index], adapter: adapter[index])
        }
    }

    private static func spread<Element>(_ items: some RandomAccessCollection<Element>, _ count: Int) -> [Element] {
        guard items.count > count else { return Array(items) }
        return (0..<count).map { items[items.index(items.startIndex, offsetBy: $0 * items.count / count)] }
    }

    /// Texts without the whole lines that all of them begin with, and those that all end with: the template's.
    static func withoutFrame(_ texts: [String]) -> [String] {
        guard texts.count > 1 else { return texts }
        let lines = texts.map { $0.split(separator: "\n", omittingEmptySubsequences: false) }
        let fewest = lines.map(\.count).min() ?? 0
        let first = (0..<fewest).first { index in !lines.allSatisfy { $0[index] == lines[0][index] } } ?? 0
        let rest = fewest - first - 1
        let last =
            (0..<max(rest, 0)).first { index in
                !lines.allSatisfy { $0[$0.count - 1 - index] == lines[0][lines[0].count - 1 - index] }
            } ?? max(rest, 0)
        return lines.map { $0[first..<$0.count - last].joined(separator: "\n") }
    }
}
