import LoRAModel
import LoRAText
import Testing

@testable import LoRATraining

@Suite("Evaluation")
struct EvaluationTests {
    let tokenizer: Tokenizer
    let model: BaseModel
    let questions = [("Is it on?", "yes"), ("Is it off?", "no, it is on"), ("How warm?", "21 °C")]

    init() throws {
        tokenizer = try TestBase.tokenizer.get()
        model = try TrainerModel.make(vocabulary: 49_152)
    }

    /// The pairs as exact match asks them, and as training sees them: the answer and the token that ends it supervised.
    func rows() throws -> (questions: [Question], examples: [Example]) {
        let end = try #require(tokenizer.endIDs.min())
        let asked = questions.enumerated().map { index, pair in
            Question(prompt: tokenizer.encode(pair.0), answer: pair.1, line: index + 1)
        }
        let examples = asked.map { question in
            let tokens = question.prompt + tokenizer.encode(question.answer) + [end]
            return Example(
                tokens: tokens, supervised: tokens.indices.map { $0 >= question.prompt.count }, line: question.line)
        }
        return (asked, examples)
    }

    @Test("An adapter that learned the answers is exact, the base is not; losses are those of the training pass")
    func evaluator() throws {
        let (questions, examples) = try rows()
        let layout = AdapterLayout(configuration: model.configuration) { _, _ in (8, 2) }
        let adapter = AdapterParameters(layout: layout)
        adapter.initialize(seed: 1)
        let pool = ThreadPool(count: 1)
        defer { pool.shutdown() }
        let pass = try TrainingPass(
            model: model, adapter: adapter, pool: pool, plan: .init(compute: .f32, rows: 64, positions: 32))
        let before = Evaluation.loss(examples, pass: pass).mean
        let trainer = Trainer(pass: pass, pool: pool, weightDecay: 0, maximumGradientNorm: 1, seed: 0)
        for _ in 0..<80 { _ = try trainer.step(examples, learningRate: 0.02) }
        let after = Evaluation.loss(examples, pass: pass).mean

        let evaluator = Evaluator(
            model: model, tokenizer: tokenizer, pool: pool, compute: .f32, examples: examples, questions: questions)
        let base = try evaluator.evaluate(name: nil, adapter: nil, measuresLoss: true, measuresExactMatch: true)
        let own = try evaluator.evaluate(name: "own", adapter: adapter, measuresLoss: true, measuresExactMatch: true)
        // B was zero at the start, so that the base's loss is the first.
        #expect(abs(try #require(base.loss) - before) <= 1e-6 * before)
        #expect(abs(try #require(own.loss) - after) <= 1e-6 * max(after, 1))
        #expect(base.exactMatch == 0)
        #expect(own.exactMatch == 1)
        #expect(own.answers?.map(\.text) == self.questions.map(\.1))
        #expect((base.adapter, own.adapter) == (nil, "own"))
    }

    @Test("What was not asked for is not measured")
    func metrics() throws {
        let (questions, examples) = try rows()
        let pool = ThreadPool(count: 1)
        defer { pool.shutdown() }
        let evaluator = Evaluator(
            model: model, tokenizer: tokenizer, pool: pool, compute: .f32, examples: examples, questions: questions)
        let loss = try evaluator.evaluate(name: nil, adapter: nil, measuresLoss: true, measuresExactMatch: false)
        #expect(loss.loss != nil && loss.answers == nil && loss.exactMatch == nil)
        let match = try evaluator.evaluate(name: nil, adapter: nil, measuresLoss: false, measuresExactMatch: true)
        #expect(match.loss == nil && match.answers?.count == 3)
    }

    @Test("Positions hold the longest question with the longest answer and some tokens more")
    func positions() throws {
        let (questions, _) = try rows()
        let longest = try #require(questions.map { tokenizer.encode($0.answer).count }.max())
        let prompt = try #require(questions.map(\.prompt.count).max())
        #expect(Evaluation.positions(questions, tokenizer: tokenizer) >= prompt + longest + 8)
        #expect(Evaluation.positions([], tokenizer: tokenizer) > 0)
    }
}
