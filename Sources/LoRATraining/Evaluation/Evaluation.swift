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

    /// The loss of `examples` at their supervised positions.
    public static func loss(_ examples: [Example], pass: TrainingPass) -> Loss {
        let sum = PackedBatch.packing(examples, capacity: pass.capacity, sharingPrefix: true).reduce(0) {
            $0 + pass.evaluate($1)
        }
        return Loss(sum: sum, supervisedTokens: examples.reduce(0) { $0 + $1.supervisedCount })
    }

    /// What a model answered to an example, and what was expected.
    public struct Answer: Sendable {
        public let question: Question
        public let text: String
        public let expected: String
        /// Equal but for space around.
        public var isExact: Bool { text == expected }
    }

    /// Greedy answers to `questions`.
    public static func answers(
        _ questions: [Question], generator: Generator, adapter: AdapterParameters?, tokenizer: Tokenizer
    ) -> [Answer] {
        // An answer may run somewhat longer than any expected one, so that rambling is told apart from cutting.
        let longest = questions.reduce(0) { max($0, tokenizer.encode($1.answer).count) }
        let requests = questions.map { question in
            Generator.Request(
                prompt: question.prompt, adapter: adapter, endIDs: tokenizer.endIDs, maximumTokens: longest + 8)
        }
        return zip(questions, generator.run(requests)).map { question, output in
            Answer(question: question, text: trimmed(tokenizer.decode(output)), expected: trimmed(question.answer))
        }
    }

    /// Tokens that the longest question and its answer may take together.
    public static func positions(_ questions: [Question], tokenizer: Tokenizer) -> Int {
        let longest = questions.reduce(0) { max($0, tokenizer.encode($1.answer).count) }
        return questions.reduce(0) { max($0, $1.prompt.count) } + longest + 9
    }

    private static func trimmed(_ text: String) -> String {
        String(text.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed())
    }
}
