import Foundation
import LoRAFormats
import LoRAText
import Testing

@testable import LoRATraining

/// Rows of `prompt`, `chosen` and `rejected`.
@Suite("Rows of preferences")
struct PreferenceRowTests {
    private let tokenizer: Tokenizer
    private let format: ChatFormat

    init() throws {
        tokenizer = try TestBase.tokenizer.get()
        format = try TestBase.format.get()
    }

    private func dataset(_ rows: [String], template: Bool = true, maximumLength: Int = 200) throws
        -> Dataset
    {
        let encoder = ExampleEncoder(
            tokenizer: tokenizer, format: template ? format : nil, maximumLength: maximumLength)
        return try Dataset(
            bytes: Array(rows.joined(separator: "\n").utf8), path: "data/train.jsonl", encoder: encoder)
    }

    private func learned(_ example: Example) -> String {
        String(
            decoding: zip(example.tokens, example.supervised).filter(\.1).flatMap {
                tokenizer.bytes(of: $0.0)
            },
            as: UTF8.self)
    }

    private func text(_ example: Example) -> String {
        String(decoding: example.tokens.flatMap { tokenizer.bytes(of: $0) }, as: UTF8.self)
    }

    private let opening = """
        <|im_start|>system
        You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
        <|im_start|>user
        hi<|im_end|>
        <|im_start|>assistant

        """

    @Test(
        "Every way to write a pair gives the same texts, supervised at the answers",
        arguments: [
            #"{"prompt":"hi","chosen":"hello","rejected":"go away"}"#,
            #"{"prompt":[{"role":"user","content":"hi"}],"chosen":[{"role":"assistant","content":"hello"}],"rejected":[{"role":"assistant","content":"go away"}]}"#,
            #"{"chosen":[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"}],"rejected":[{"role":"user","content":"hi"},{"role":"assistant","content":"go away"}]}"#,
            #"{"prompt":"hi","chosen":[{"role":"assistant","content":"hello"}],"rejected":[{"role":"assistant","content":"go away"}]}"#,
            #"{"prompt":"hi","prompt_id":"7","chosen":[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"}],"rejected":[{"role":"user","content":"hi"},{"role":"assistant","content":"go away"}],"messages":[],"score_chosen":7.5}"#,
            #"{"prompt":null,"chosen":[{"content":"hi","role":"user"},{"role":"assistant","content":"hello"}],"rejected":[{"role":"user","content":"hi"},{"role":"assistant","content":"go away"}]}"#,
        ])
    func forms(row: String) throws {
        let data = try dataset([row])
        #expect(data.form == .preference)
        #expect(data.rowCount == 1 && data.examples.count == 2)
        #expect(data.questions.isEmpty)
        let pair = data.pairs[0]
        #expect(text(pair.chosen) == opening + "hello<|im_end|>\n")
        #expect(text(pair.rejected) == opening + "go away<|im_end|>\n")
        #expect(learned(pair.chosen) == "hello<|im_end|>\n")
        #expect(learned(pair.rejected) == "go away<|im_end|>\n")
    }

    @Test(
        "What was said before is context, the assistant's words too; all answers after it are learned")
    func turns() throws {
        let message = { (role: String, content: String) in
            "{\"role\":\"\(role)\",\"content\":\"\(content)\"}"
        }
        let beginning = [message("user", "hi"), message("assistant", "yes?"), message("user", "so")]
        let chosen =
            beginning + [
                message("assistant", "good"), message("user", "and"), message("assistant", "better"),
            ]
        let rejected = beginning + [message("assistant", "bad")]
        let list = { (messages: [String]) in "[\(messages.joined(separator: ","))]" }
        let pair = try dataset(["{\"chosen\":\(list(chosen)),\"rejected\":\(list(rejected))}"]).pairs[0]
        #expect(learned(pair.chosen) == "good<|im_end|>\nbetter<|im_end|>\n")
        #expect(learned(pair.rejected) == "bad<|im_end|>\n")
        #expect(text(pair.chosen).contains("assistant\nyes?<|im_end|>"))
    }

    @Test("Strings without a prompt are taken as they are; what both begin with is not learned")
    func continuations() throws {
        let row =
            #"{"chosen":"Human: hi\n\nAssistant: hello","rejected":"Human: hi\n\nAssistant: go away"}"#
        for template in [true, false] {
            let pair = try dataset([row], template: template).pairs[0]
            #expect(text(pair.chosen) == "Human: hi\n\nAssistant: hello<|im_end|>")
            #expect(text(pair.rejected) == "Human: hi\n\nAssistant: go away<|im_end|>")
            #expect(learned(pair.chosen) == " hello<|im_end|>")
            #expect(learned(pair.rejected) == " go away<|im_end|>")
        }
    }

    @Test("Texts part where their scalars do, also between two spellings of a letter, and keep their own")
    func spellings() throws {
        let pair = try dataset([#"{"chosen":"Say: \u00e9 one","rejected":"Say: e\u0301 one"}"#]).pairs[0]
        #expect(Array(text(pair.chosen).utf8) == Array("Say: \u{e9} one<|im_end|>".utf8))
        #expect(Array(text(pair.rejected).utf8) == Array("Say: e\u{301} one<|im_end|>".utf8))
        #expect(learned(pair.chosen) == " \u{e9} one<|im_end|>")
        #expect(learned(pair.rejected) == " e\u{301} one<|im_end|>")
    }

    @Test("Without a template, prompt and answer are joined")
    func plain() throws {
        let pair = try dataset(
            [#"{"prompt":"two and two: ","chosen":"4","rejected":"5"}"#], template: false
        ).pairs[0]
        #expect(text(pair.chosen) == "two and two: 4<|im_end|>")
        #expect(learned(pair.rejected).hasSuffix("5<|im_end|>"))
    }

    @Test("A pair is left out whole when either text is too long, or an answer is missing")
    func skips() throws {
        let long = String(repeating: "long ", count: 80)
        let data = try dataset(
            [
                #"{"prompt":"hi","chosen":"hello","rejected":"\#(long)"}"#,
                #"{"prompt":"hi","chosen":"hello","rejected":"go away"}"#,
                #"{"prompt":"hi","chosen":"\#(long)","rejected":"no"}"#,
                #"{"prompt":"hi","chosen":"hello","rejected":""}"#,
                #"{"chosen":[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"}],"rejected":[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"}]}"#,
            ], maximumLength: 60)
        #expect(data.rowCount == 1)
        #expect(learned(data.pairs[0].rejected) == "go away<|im_end|>\n")
        #expect(data.skips.tooLong.first.map(\.line) == [1, 3])
        #expect(data.skips.withoutAnswer.first.map(\.line) == [4, 5])
        #expect(data.warnings.count == 2)
        #expect(data.warnings.first?.contains("--max-length") == true)
    }

    @Test("Bad rows are told, all of them")
    func refusals() throws {
        let cases = [
            (
                #"{"prompt":"hi","chosen":"a","rejected":["b"]}"#,
                "must both be strings or both lists of messages"
            ),
            (#"{"prompt":"hi","chosen":4,"rejected":"b"}"#, "found a number and a string"),
            (#"{"prompt":7,"chosen":"a","rejected":"b"}"#, "\"prompt\" must be a string, found a number"),
            (#"{"chosen":"a","rejected":"b"}"#, "begin differently"),
            (
                #"{"chosen":[{"role":"user","content":"x"},{"role":"assistant","content":"a"}],"rejected":[{"role":"user","content":"y"},{"role":"assistant","content":"b"}]}"#,
                "begin with different messages"
            ),
            (
                #"{"prompt":"z","chosen":[{"role":"user","content":"x"},{"role":"assistant","content":"a"}],"rejected":[{"role":"user","content":"x"},{"role":"assistant","content":"b"}]}"#,
                "is not the message before the answers"
            ),
            (
                #"{"prompt":{},"chosen":[{"role":"assistant","content":"a"}],"rejected":[{"role":"assistant","content":"b"}]}"#,
                "\"prompt\" must be a string or a list of messages, found an object"
            ),
            (
                #"{"prompt":"q","chosen":[{"role":"assistant"}],"rejected":[{"role":"assistant","content":"b"}]}"#,
                "chosen[0] has no \"content\""
            ),
            (
                #"{"prompt":[{"role":"user","content":"q"}],"chosen":[{"role":"user","content":"a"}],"rejected":[{"role":"assistant","content":"b"}]}"#,
                "\"chosen\" has no answer of the assistant"
            ),
            (
                #"{"prompt":"q","chosen":[],"rejected":[{"role":"assistant","content":"b"}]}"#,
                "found an empty list"
            ),
            (#"{"prompt":"q","chosen":"a"}"#, "no \"rejected\" among the keys"),
        ]
        let good = #"{"prompt":"hi","chosen":"hello","rejected":"go away"}"#
        let error = try #require(
            #expect(throws: TrainingDataError.self) { try dataset([good] + cases.map(\.0)) })
        #expect(error.message.hasPrefix("\(cases.count) of \(cases.count + 1) rows cannot be used: "))
        for (index, expected) in cases.enumerated() {
            #expect(error.message.contains("train.jsonl:\(index + 2): "))
            #expect(error.message.contains(expected.1), "\(expected.1) in \(error.message)")
        }
        #expect(!error.message.contains("\n"))
    }

    @Test("An objective and the rows that it does not learn from are refused with what would do")
    func objectives() throws {
        let pairs = try dataset([#"{"prompt":"hi","chosen":"hello","rejected":"go away"}"#])
        let plain = try dataset([#"{"prompt":"hi","completion":"hello"}"#])
        for objective in [Objective.dpo, .orpo] {
            try pairs.check(objective)
            let error = #expect(throws: TrainingDataError.self) { try plain.check(objective) }
            #expect(
                error?.message.contains("--objective \(objective.rawValue) learns from prompt + chosen")
                    == true)
        }
        try plain.check(.sft)
        let error = #expect(throws: TrainingDataError.self) { try pairs.check(.sft) }
        #expect(error?.message.contains("--objective dpo or orpo") == true)
    }
}
