import LoRAText
import Testing

@testable import LoRATraining

@Suite("Held-out examples")
struct HoldOutTests {
    private let encoder: ExampleEncoder

    init() throws {
        encoder = ExampleEncoder(tokenizer: try TestBase.tokenizer.get(), format: nil, maximumLength: 100)
    }

    private func dataset(_ texts: [String]) throws -> Dataset {
        let rows = texts.map { "{\"text\":\"\($0)\"}\n" }
        return try Dataset(bytes: Array(rows.joined().utf8), path: "train.jsonl", encoder: encoder)
    }

    @Test("A share or a number is held out, the rest is trained on, in the order of the file")
    func sizes() throws {
        let whole = try dataset((0..<50).map { "text \($0)" })
        for (part, count) in [
            (HoldOut.share(0.1), 5), (.share(0.5), 25), (.share(0.001), 1), (.count(1), 1), (.count(49), 49),
        ] {
            let (train, held) = try whole.holdingOut(part, seed: 3)
            #expect(held.examples.count == count && train.examples.count == 50 - count, "\(part)")
            #expect(train.examples.map(\.line) == train.examples.map(\.line).sorted())
            #expect((train.examples.map(\.line) + held.examples.map(\.line)).sorted() == Array(1...50))
            for data in [train, held] {
                #expect(data.tokenCount == data.examples.reduce(0) { $0 + $1.tokens.count })
                #expect(data.supervisedCount == data.examples.reduce(0) { $0 + $1.supervisedCount })
            }
        }
    }

    @Test("Rows that were skipped are told once, with the part that is trained on")
    func skips() throws {
        let (train, held) = try dataset(["one text", "", "two texts", "three texts"]).holdingOut(.count(1), seed: 0)
        #expect(train.skips.withoutAnswer.first.map(\.line) == [2] && train.warnings.count == 1)
        #expect(held.skips.count == 0 && held.warnings.isEmpty)
    }

    @Test("The seed decides which")
    func seeds() throws {
        let whole = try dataset((0..<50).map { "text \($0)" })
        let lines = try [1, 1, 2].map { try whole.holdingOut(.count(10), seed: $0).held.examples.map(\.line) }
        #expect(lines[0] == lines[1] && lines[0] != lines[2])
    }

    @Test("Copies of a row are on one side, whatever the seed")
    func copies() throws {
        let whole = try dataset((0..<60).map { "text \($0 % 7)" })
        #expect(whole.copyCount() == 53)
        for seed in 0..<20 as Range<UInt64> {
            let (train, held) = try whole.holdingOut(.share(0.2), seed: seed)
            #expect(held.examples.count >= 12)
            #expect(train.count(of: held) == 0 && held.count(of: train) == 0)
        }
    }

    @Test("Something must be left to train on")
    func nothingLeft() throws {
        let whole = try dataset(["one text", "one text"])
        for part in [HoldOut.count(2), .count(99), .share(0.5)] {
            let error = #expect(throws: TrainingDataError.self) { try whole.holdingOut(part, seed: 0) }
            #expect(error?.message.contains("nothing is left to train on") == true)
        }
    }

    @Test("Lengths and what two splits share are counted")
    func statistics() throws {
        let first = try dataset(["a b c", "a b", "x y", "a b"])
        let second = try dataset(["x y", "x y", "a b c d"])
        #expect(first.lengths().map(\.tokens) == [3, 4])
        #expect(first.lengths().map(\.examples) == [3, 1])
        #expect(first.copyCount() == 1)
        #expect(first.count(of: second) == 2)
    }
}
