import Foundation
import LoRAFormats
import LoRAModel
import LoRAText
import Testing

@testable import LoRATraining

/// Reading without a template; `DatasetTemplateTests` has the rest.
@Suite("Data sets")
struct DatasetTests {
    private let tokenizer: Tokenizer

    init() throws {
        tokenizer = try TestBase.tokenizer.get()
    }

    private func dataset(_ text: String, maximumLength: Int = 100) throws -> Dataset {
        let encoder = ExampleEncoder(tokenizer: tokenizer, format: nil, maximumLength: maximumLength)
        return try Dataset(bytes: Array(text.utf8), path: "data/train.jsonl", encoder: encoder)
    }

    private func refusal(_ text: String) throws -> String {
        try #require(#expect(throws: TrainingDataError.self) { try dataset(text) }).message
    }

    @Test("Of a plain completion the answer and the end are supervised, whatever the tokens at the seam")
    func completion() throws {
        let data = try dataset(#"{"prompt":"The answer: for","completion":"ty two"}"#)
        let example = try #require(data.examples.first)
        #expect(example.tokens.dropLast() == tokenizer.encode("The answer: forty two")[...])
        #expect(example.tokens.last == tokenizer.eosID)
        // "forty" may be one token that begins in the prompt: its bytes reach into the answer, so it is learned.
        var learned: [UInt8] = []
        for (token, marked) in zip(example.tokens, example.supervised) where marked {
            learned += tokenizer.bytes(of: token)
        }
        let text = try #require(String(bytes: learned, encoding: .utf8))
        #expect(text.hasSuffix("ty two<|im_end|>"))
        #expect(text.utf8.count < "The answer: forty two<|im_end|>".utf8.count)
        #expect(data.questions.first?.prompt == tokenizer.encode("The answer: for"))
        #expect(data.questions.first?.answer == "ty two")
    }

    @Test("Of plain text everything is supervised but the first token, which nothing predicts")
    func text() throws {
        let data = try dataset(#"{"text":"once upon a time"}"#)
        let example = try #require(data.examples.first)
        #expect(example.tokens == tokenizer.encode("once upon a time") + [try #require(tokenizer.eosID)])
        #expect(example.supervised.first == false)
        #expect(example.supervised.dropFirst().allSatisfy { $0 })
        #expect(example.supervisedCount == example.tokens.count - 1)
        #expect(data.questions.isEmpty)
    }

    @Test("Text that ends its turn itself gets no second end", arguments: ["hello<|im_end|>", "hello<|im_end|>\n"])
    func endedText(text: String) throws {
        let data = try dataset("{\"text\":\(JSONValue.string(text).serialized())}")
        #expect(data.examples.first?.tokens == tokenizer.encode(text))
    }

    @Test("A turn that ends in the middle of the text does not count as its end")
    func endInside() throws {
        let data = try dataset("{\"text\":\"hello<|im_end|>x\"}")
        #expect(data.examples.first?.tokens.last == tokenizer.eosID)
    }

    @Test("Lines are counted as an editor counts them; blank lines, CRLF and a missing last line feed do no harm")
    func lines() throws {
        let data = try dataset("\n{\"text\":\"one two\"}\r\n  \r\n\n{\"text\":\"three four\"}")
        #expect(data.examples.map(\.line) == [2, 5])
        #expect(data.form == .text)
    }

    @Test("The digest is SHA-256 of the file's bytes")
    func digest() throws {
        // sha256sum of {"text":"one two"} and a line feed.
        #expect(
            try dataset("{\"text\":\"one two\"}\n").digest
                == "56acf4a0b62b9ef33d8a070f7e40613805b2619e25deb46376c937504954555c")
    }

    @Test("All bad lines are in one error, each with its number")
    func badLines() throws {
        let message = try refusal(
            """
            {"text":"fine"}
            {"text":7}
            {"text":"fine"
            {"prompt":"a","completion":"b"}
            {"text":"fine"}
            """)
        #expect(message.hasPrefix("3 of 5 rows cannot be used: train.jsonl:2: \"text\" must be a string"))
        #expect(message.contains("; train.jsonl:3: JSON: expected"))
        #expect(message.contains("; train.jsonl:4: no \"text\" among the keys"))
        #expect(!message.contains("\n"))
    }

    @Test("Of very many bad lines twenty are printed and the rest counted")
    func manyBadLines() throws {
        let message = try refusal(String(repeating: "{\"text\":1}\n", count: 53))
        #expect(message.hasPrefix("53 of 53 rows"))
        #expect(message.contains("train.jsonl:20:"))
        #expect(!message.contains("train.jsonl:21:"))
        #expect(message.hasSuffix("; and 33 more"))
    }

    @Test("A byte order mark at the beginning of the file is passed over, and the lines keep their numbers")
    func byteOrderMark() throws {
        let row = "{\"text\":\"one two\"}"
        #expect(try dataset("\u{FEFF}\(row)\r\n\(row)\r\n").examples.map(\.line) == [1, 2])
        #expect(try refusal("\(row)\n\u{FEFF}\(row)").contains("train.jsonl:2: JSON starts with a byte order mark"))
    }

    @Test("Invalid UTF-8, a character cut in half, deep nesting and NUL are bad lines, not crashes")
    func hostileBytes() throws {
        let encoder = ExampleEncoder(tokenizer: tokenizer, format: nil, maximumLength: 100)
        let lines: [[UInt8]] = [
            Array("{\"text\":\"".utf8) + [0xFF, 0xC0] + Array("\"}".utf8),
            Array("{\"text\":\"caf\u{E9}".utf8.dropLast()),
            Array("{\"text\":\"a\u{0}b\"}".utf8),
            Array(repeating: UInt8(ascii: "["), count: 100_000),
            [0],
        ]
        for line in lines {
            let error = #expect(throws: TrainingDataError.self) {
                try Dataset(bytes: line + [0x0A], path: "train.jsonl", encoder: encoder)
            }
            #expect(error?.message.hasPrefix("1 of 1 rows cannot be used: train.jsonl:1: ") == true)
        }
    }

    @Test("Files damaged at random are read or refused in one line, never anything else")
    func damaged() throws {
        let encoder = ExampleEncoder(tokenizer: tokenizer, format: nil, maximumLength: 100)
        let whole = Array(
            "{\"prompt\":\"a \\u00e9\",\"completion\":\"b\"}\n{\"prompt\":\"\",\"completion\":\"c d\"}\n".utf8)
        var generator = SplitMix64(seed: 11, stream: 0)
        var refused = 0
        for _ in 0..<400 {
            var bytes = whole
            for _ in 0...generator.next(below: 3) {
                let position = generator.next(below: bytes.count)
                switch generator.next(below: 3) {
                case 0: bytes[position] = UInt8(truncatingIfNeeded: generator.next())
                case 1: bytes.remove(at: position)
                default: bytes.insert(UInt8(truncatingIfNeeded: generator.next()), at: position)
                }
            }
            do {
                _ = try Dataset(bytes: bytes, path: "train.jsonl", encoder: encoder)
            } catch let error as TrainingDataError {
                refused += 1
                #expect(error.message.unicodeScalars.allSatisfy { $0.value >= 32 }, "\(error.message)")
            }
        }
        #expect(refused > 100)
    }

    @Test("Rows over the limit, and rows without an answer, are skipped, counted and listed, never cut")
    func skips() throws {
        let long = String(repeating: "many words ", count: 30)
        let data = try dataset(
            """
            {"prompt":"a b","completion":"c"}
            {"prompt":"a b","completion":"\(long)"}
            {"prompt":"a b","completion":""}
            {"prompt":"\(long)","completion":"c"}
            """, maximumLength: 20)
        #expect(data.examples.map(\.line) == [1])
        #expect(data.questions.map(\.line) == [1])
        #expect(data.skips.tooLong.first.map(\.line) == [2, 4])
        #expect(data.skips.withoutAnswer.first.map(\.line) == [3])
        #expect(data.skips.count == 3)
        #expect(data.warnings.count == 2)
        #expect(
            data.warnings[0].hasPrefix("train.jsonl: 2 rows over the limit of 20 tokens skipped, line (tokens): 2 ("))
        #expect(data.warnings[1].hasPrefix("train.jsonl: 1 row without an answer to learn from skipped, line: 3."))
    }

    @Test("A row of exactly the limit is used")
    func exactLimit() throws {
        let length = tokenizer.encode("one two three").count + 1
        #expect(try dataset("{\"text\":\"one two three\"}", maximumLength: length).examples.count == 1)
        #expect(throws: TrainingDataError.self) {
            try dataset("{\"text\":\"one two three\"}", maximumLength: length - 1)
        }
    }

    @Test("A file in which no row is left is refused with the reasons")
    func nothingLeft() throws {
        #expect(
            try refusal("{\"prompt\":\"a\",\"completion\":\"\"}\n").contains(
                "no row is left to use. train.jsonl: 1 row"))
        #expect(try refusal("\n \n").contains("there is no row in the file"))
    }

    @Test("A conversation needs a chat template")
    func noTemplate() throws {
        let row = #"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#
        let message = try refusal("\(row)\n\(row)\n")
        #expect(message.hasPrefix("train.jsonl:1: the rows are conversations, but the base has no chat template"))
        #expect(!message.contains("train.jsonl:2"))
    }

    @Test("Splits are found in a directory; one file has nothing to validate with")
    func locations() throws {
        try TestFiles.withTemporaryDirectory { directory in
            let train = directory.appending(path: "train.jsonl")
            try Data("{\"text\":\"one two\"}\n".utf8).write(to: train)
            let whole = try Dataset.Location(path: directory.path)
            #expect(try whole.path(of: .train) == train.path)
            #expect(try whole.path(of: .valid) == nil)
            let error = #expect(throws: TrainingDataError.self) { try whole.path(of: .test) }
            #expect(error?.message.contains("there is no test.jsonl") == true)
            let valid = directory.appending(path: "valid.jsonl").path
            try FileManager.default.createSymbolicLink(atPath: valid, withDestinationPath: "nowhere")
            #expect(try whole.path(of: .valid) == valid, "so that reading it fails")
            let one = try Dataset.Location(path: train.path)
            #expect(try one.path(of: .train) == train.path)
            #expect(try one.path(of: .test) == train.path)
            #expect(try one.path(of: .valid) == nil)
            let missing = directory.appending(path: "absent").path
            let absent = #expect(throws: TrainingDataError.self) { try Dataset.Location(path: missing) }
            #expect(absent?.message.contains("No such file or directory") == true)
        }
    }

    @Test("An unreadable file is an error with its path")
    func unreadable() throws {
        let encoder = ExampleEncoder(tokenizer: tokenizer, format: nil, maximumLength: 100)
        try TestFiles.withTemporaryDirectory { directory in
            let empty = directory.appending(path: "train.jsonl")
            try Data().write(to: empty)
            for path in [empty.path, directory.path, directory.path + "/absent"] {
                let error = #expect(throws: TrainingDataError.self) { try Dataset(path: path, encoder: encoder) }
                #expect(error?.message.hasPrefix(path) == true)
            }
        }
    }
}
