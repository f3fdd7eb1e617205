public import LoRAModel
public import LoRAText

/// How well a model with an adapter, or without, does on examples it was not trained on.
public enum Evaluation {
    /// Sum of losses and the tokens they are of.
    public struct Loss: Sendable {
        public let sum: Double
        public let supervisedTokens: Int
        /// Per supervised token, in nats.
        public var mean: Double { sum / Double(max(supervisedTokens, 1)) }
    }

    /// Examples, pairs or questions that are in memory at a time.
    private static let window = 1024

    /// The loss of `examples` at their supervised positions.
    public static func loss(_ examples: some RandomAccessCollection<Example>, pass: TrainingPass) -> Loss {
        var (sum, supervised) = (0.0, 0)
        forEachWindow(of: examples) { examples in
            sum = PackedBatch.packing(examples, capacity: pass.capacity, sharingPrefix: true).reduce(sum) {
                $0 + pass.evaluate($1)
            }
            supervised += examples.reduce(0) { $0 + $1.supervisedCount }
        }
        return Loss(sum: sum, supervisedTokens: supervised)
    }

    /// Hands out `elements` in pieces that fit in memory.
    static func forEachWindow<Element>(
        of elements: some RandomAccessCollection<Element>, _ body: ([Element]) -> Void
    ) {
        var rest = elements[...]
        while !rest.isEmpty {
            body(Array(rest.prefix(window)))
            rest = rest.dropFirst(window)
        }
    }

    /// What a model answered to an example, and what was expected.
    public struct Answer: Sendable {
        public let text: String
        public let expected: String
        /// Equal but for space around.
        public var isExact: Bool { text == expected }
    }

    /// Greedy answers to `questions`.
    public static func answers(
        _ questions: some RandomAccessCollection<Question>, generator: Generator, adapter: AdapterParameters?,
        tokenizer: Tokenizer
    ) -> [Answer] {
        // An answer may run somewhat longer than any expected one, so that rambling is told apart from cutting.
        let longest = longestAnswer(questions, tokenizer)
        var answers: [Answer] = []
        forEachWindow(of: questions) { questions in
            let requests = questions.map { question in
                Generator.Request(
                    prompt: question.prompt, adapter: adapter, endIDs: tokenizer.endIDs, maximumTokens: longest + 8)
            }
            answers += zip(questions, generator.run(requests)).map { question, output in
                Answer(text: trimmed(tokenizer.decode(output)), expected: trimmed(question.answer))
            }
        }
        return answers
    }

    /// Tokens that the longest question and its answer may take together.
    public static func positions(_ questions: some RandomAccessCollection<Question>, tokenizer: Tokenizer) -> Int {
        questions.reduce(0) { max($0, $1.prompt.count) } + longestAnswer(questions, tokenizer) + 9
    }

    private static func longestAnswer(
        _ questions: some RandomAccessCollection<Question>, _ tokenizer: Tokenizer
    ) -> Int {
        questions.reduce(0) { max($0, tokenizer.encode($1.answer).count) }
    }

    /// `text` without the space around it.
    static func trimmed(_ text: String) -> String {
        String(text.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed())
    }
}
