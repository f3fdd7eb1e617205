import Foundation
import LoRAFormats
import LoRAText
import Testing

@testable import LoRATraining

/// Reading with the base's own chat template.
@Suite("Data sets with a chat template")
struct DatasetTemplateTests {
    private let tokenizer: Tokenizer
    private let encoder: ExampleEncoder

    init() throws {
        tokenizer = try TestBase.tokenizer.get()
        encoder = ExampleEncoder(tokenizer: tokenizer, format: try TestBase.format.get(), maximumLength: 200)
    }

    private func dataset(_ text: String) throws -> Dataset {
        try Dataset(bytes: Array(text.utf8), path: "train.jsonl", encoder: encoder)
    }

    private func learned(_ example: Example) -> String {
        String(
            decoding: zip(example.tokens, example.supervised).filter(\.1).flatMap { tokenizer.bytes(of: $0.0) },
            as: UTF8.self)
    }

    private let prompt = """
        <|im_start|>system
        You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
        <|im_start|>user
        hi<|im_end|>
        <|im_start|>assistant

        """

    @Test("The rows of smart-home have the tokens and the mask that PEFT trained on")
    func smartHome() throws {
        let golden = try TestFiles.golden("peft_smart_home.json", as: PEFTGolden.self)
        let data = try Dataset(path: TestFiles.smartHome.appending(path: "train.jsonl").path, encoder: encoder)
        #expect(data.examples.count == 2000)
        #expect(data.skips.count == 0)
        try #require(golden.firstBatch.count == golden.batchSize)
        for (example, expected) in zip(data.examples, golden.firstBatch) {
            #expect(example.tokens == expected.ids)
            #expect(example.supervised == expected.ids.indices.map { $0 >= expected.supervisedFrom })
        }
        let plan = try BatchPlan(
            exampleCount: data.examples.count, batchSize: golden.batchSize, length: .steps(golden.steps),
            shuffles: false, seed: 0)
        for (batch, expected) in zip(plan.batches(), golden.run) {
            let examples = batch.examples.map { data.examples[$0] }
            #expect(examples.reduce(0) { $0 + $1.tokens.count } == expected.tokens)
            #expect(examples.reduce(0) { $0 + $1.supervisedCount } == expected.supervised)
        }
        let schedule = Schedule(
            course: .linear, peak: golden.learningRate, warmupFraction: golden.warmup, stepCount: golden.steps)
        #expect(schedule.warmupSteps == golden.warmupSteps)
        for (step, expected) in golden.run.enumerated() {
            #expect(abs(schedule.learningRate(at: step) - expected.learningRate) < 1e-18)
        }
    }

    @Test(
        "The answer is learned with its end, the prompt is not",
        arguments: [
            #"{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"}]}"#,
            #"{"conversations":[{"from":"human","value":"hi"},{"from":"gpt","value":"hello"}]}"#,
            #"{"prompt":"hi","completion":"hello"}"#,
            #"{"instruction":"hi","output":"hello"}"#,
        ])
    func answer(row: String) throws {
        let data = try dataset(row)
        let example = try #require(data.examples.first)
        #expect(example.tokens == tokenizer.encode(prompt + "hello<|im_end|>\n"))
        #expect(learned(example) == "hello<|im_end|>\n")
        #expect(Array(data.questions) == [Question(prompt: tokenizer.encode(prompt), answer: "hello", line: 1)])
    }

    @Test("An instruction's input follows it after an empty line")
    func instructionInput() throws {
        let data = try dataset(#"{"instruction":"add","input":"2, 2","output":"4"}"#)
        let text = tokenizer.decode(try #require(data.examples.first).tokens, skippingSpecial: false)
        #expect(text.contains("<|im_start|>user\nadd\n\n2, 2<|im_end|>\n<|im_start|>assistant\n4<|im_end|>"))
    }

    @Test("Every answer of several turns is learned, and the last one is asked for")
    func turns() throws {
        let data = try dataset(
            #"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"a"},"#
                + #"{"role":"assistant","content":"b"},{"role":"user","content":"c"},"#
                + #"{"role":"assistant","content":"d"}]}"#)
        #expect(learned(try #require(data.examples.first)) == "b<|im_end|>\nd<|im_end|>\n")
        let question = try #require(data.questions.first)
        let asked = tokenizer.decode(question.prompt, skippingSpecial: false)
        #expect(asked.hasPrefix("<|im_start|>system\ns<|im_end|>\n"))
        #expect(asked.hasSuffix("assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"))
        #expect(question.answer == "d")
    }

    @Test("Weights and --mask last leave answers in the context that are not learned")
    func masks() throws {
        let row = { (weights: [Int]) -> String in
            let turns = zip(["b", "d", "f"], weights).map { answer, weight in
                #"{"role":"user","content":"q"},{"role":"assistant","content":"\#(answer)","weight":\#(weight)}"#
            }
            return "{\"messages\":[\(turns.joined(separator: ","))]}"
        }
        for (mask, weights, expected) in [
            (LossMask.all, [1, 1, 1], "b.d.f."), (.all, [0, 1, 0], "d."), (.last, [1, 1, 1], "f."),
            (.last, [1, 1, 0], "d."),
        ] {
            let encoder = ExampleEncoder(tokenizer: tokenizer, format: encoder.format, maximumLength: 200, mask: mask)
            let data = try Dataset(bytes: Array(row(weights).utf8), path: "train.jsonl", encoder: encoder)
            let example = try #require(data.examples.first)
            #expect(learned(example).replacing("<|im_end|>\n", with: ".") == expected, "\(mask) \(weights)")
            #expect(tokenizer.decode(example.tokens).contains("assistant\nb\n"))
        }
        let none = #expect(throws: TrainingDataError.self) { try dataset(row([0, 0, 0])) }
        #expect(none?.message.contains("1 row without an answer to learn from") == true)
    }

    @Test("An empty answer is nothing to learn from, with a template as without")
    func emptyAnswer() throws {
        let data = try dataset(
            #"{"prompt":"hi","completion":""}"# + "\n" + #"{"prompt":"hi","completion":"hello"}"#)
        #expect(data.skips.withoutAnswer.first.map(\.line) == [1])
        #expect(data.examples.map(\.line) == [2])
    }

    @Test("Plain text is taken as it is, template or not")
    func text() throws {
        let example = try #require(try dataset(#"{"text":"once upon a time"}"#).examples.first)
        #expect(Array(example.tokens.dropLast()) == tokenizer.encode("once upon a time"))
    }

    @Test("What a template refuses is a bad line")
    func templateError() throws {
        let template = try ChatTemplate(source: "{{ raise_exception('no tools here') }}")
        let format = ChatFormat(template: template, tokenizer: tokenizer)
        let encoder = ExampleEncoder(tokenizer: tokenizer, format: format, maximumLength: 200)
        let row = #"{"prompt":"hi","completion":"hello"}"#
        let error = #expect(throws: TrainingDataError.self) {
            try Dataset(bytes: Array(row.utf8), path: "train.jsonl", encoder: encoder)
        }
        #expect(error?.message.contains("train.jsonl:1: ") == true)
        #expect(error?.message.contains("no tools here") == true)
    }
}
