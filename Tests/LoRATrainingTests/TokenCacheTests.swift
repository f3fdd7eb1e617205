import Foundation
import LoRAFormats
import LoRAText
import Testing

@testable import LoRATraining

@Suite("Token cache")
struct TokenCacheTests {
    private let gguf: GGUFFile
    private let tokenizer: Tokenizer

    init() throws {
        gguf = try GGUFFile(path: TestFiles.base)
        tokenizer = try TestBase.tokenizer.get()
    }

    private func encoder(
        maximumLength: Int = 200, mask: LossMask = .all, asksQuestions: Bool = true
    ) throws -> ExampleEncoder {
        try ExampleEncoder(
            gguf: gguf, tokenizer: tokenizer, maximumLength: maximumLength, contextLength: 8192, mask: mask,
            asksQuestions: asksQuestions)
    }

    /// A data file of long ago and an empty cache.
    private func withData(_ body: (_ data: URL, _ cache: TokenCache) throws -> Void) throws {
        try TestFiles.withTemporaryDirectory { directory in
            let data = directory.appending(path: "train.jsonl")
            let rows = (0..<40).map { "{\"prompt\":\"say \($0)\",\"completion\":\"it is \($0)\"}\n" }
            try Data((rows.joined() + "{\"prompt\":\"none\",\"completion\":\"\"}\n").utf8).write(to: data)
            try setTime(of: data, daysAgo: 1)
            try body(data, TokenCache(directory: directory.appending(path: "deep/cache").path, smallest: 1))
        }
    }

    private func setTime(of file: URL, daysAgo: Double) throws {
        let time = time_t(Date().timeIntervalSince1970 - daysAgo * 86_400)
        let times = [timeval(tv_sec: time, tv_usec: 0), timeval(tv_sec: time, tv_usec: 0)]
        try #require(utimes(file.path, times) == 0)
    }

    private func files(_ cache: TokenCache, _ ending: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: cache.directory).filter { $0.hasSuffix(ending) }
            .map { cache.directory + "/" + $0 }.sorted()
    }

    private func inodes(_ cache: TokenCache) throws -> [UInt64] {
        try files(cache, ".tokens").map { try OpenFile(path: $0).state.inode }
    }

    private func expectSame(_ first: Dataset, _ second: Dataset) {
        #expect(Array(first.examples) == Array(second.examples))
        #expect(Array(first.questions) == Array(second.questions))
        #expect(first.digest == second.digest && first.form == second.form && first.skips == second.skips)
        #expect(first.warnings == second.warnings)
        #expect(first.tokenCount == second.tokenCount && first.supervisedCount == second.supervisedCount)
        #expect(first.longestRows == second.longestRows)
    }

    @Test("The second time the kept tokens are taken, and they are what the rows give")
    func secondTime() throws {
        try withData { data, cache in
            let plain = try Dataset(path: data.path, encoder: encoder(), cache: nil)
            #expect(plain.examples.count == 40 && plain.questions.count == 40 && plain.warnings.count == 1)
            expectSame(plain, try Dataset(path: data.path, encoder: encoder(), cache: cache))
            let made = try inodes(cache)
            #expect(made.count == 1)
            expectSame(plain, try Dataset(path: data.path, encoder: encoder(), cache: cache))
            #expect(try inodes(cache) == made)
            #expect(try FileManager.default.contentsOfDirectory(atPath: cache.directory).count == 3)
        }
    }

    @Test("The first time tells how far it is, up to the end; what is kept needs no time")
    func progress() throws {
        try withData { data, cache in
            for expected in [["train.jsonl 1.0"], []] {
                var told: [String] = []
                _ = try Dataset(path: data.path, encoder: encoder(), cache: cache) { told.append("\($0) \($1)") }
                #expect(told == expected)
            }
        }
    }

    @Test("The same bytes elsewhere have the same tokens; whatever decides tokens has its own")
    func keys() throws {
        try withData { data, cache in
            let copy = data.deletingLastPathComponent().appending(path: "copy.jsonl")
            try FileManager.default.copyItem(at: data, to: copy)
            _ = try Dataset(path: data.path, encoder: encoder(), cache: cache)
            _ = try Dataset(path: copy.path, encoder: encoder(), cache: cache)
            #expect(try inodes(cache).count == 1)
            for other in [
                try encoder(maximumLength: 100), try encoder(mask: .last), try encoder(asksQuestions: false),
            ] {
                _ = try Dataset(path: data.path, encoder: other, cache: cache)
            }
            #expect(try inodes(cache).count == 4)
            let unknown = ExampleEncoder(tokenizer: tokenizer, format: nil, maximumLength: 200)
            _ = try Dataset(path: data.path, encoder: unknown, cache: cache)
            #expect(try inodes(cache).count == 4)
        }
    }

    @Test("Data that changed is read again, also with its old size and time")
    func changedData() throws {
        try withData { data, cache in
            let first = try Dataset(path: data.path, encoder: encoder(), cache: cache)
            let text = try String(contentsOf: data, encoding: .utf8)
            try Data(text.replacing("it is 39", with: "it is 93").utf8).write(to: data)
            try setTime(of: data, daysAgo: 1)
            let second = try Dataset(path: data.path, encoder: encoder(), cache: cache)
            #expect(first.digest != second.digest)
            #expect(try inodes(cache).count == 2)
        }
    }

    @Test("Data of this very moment is not taken on trust")
    func newData() throws {
        try withData { data, cache in
            // However long it takes from here to the reader, it is not old then.
            try setTime(of: data, daysAgo: -1)
            _ = try Dataset(path: data.path, encoder: encoder(), cache: cache)
            #expect(try files(cache, ".digest").count == 1, "that of the token file alone")
        }
    }

    @Test(
        "A damaged or foreign token file is made again",
        arguments: ["cut", "empty", "other", "text"] + (0..<12).map { "\($0)" })
    func damage(kind: String) throws {
        try withData { data, cache in
            let whole = try Dataset(path: data.path, encoder: encoder(), cache: nil)
            _ = try Dataset(path: data.path, encoder: encoder(), cache: cache)
            let file = URL(filePath: try #require(try files(cache, ".tokens").first))
            var bytes = try Data(contentsOf: file)
            switch kind {
            case "cut": bytes = bytes.dropLast(1)
            case "empty": bytes = Data()
            case "text": bytes = Data("no tokens".utf8)
            case "other":
                _ = try Dataset(path: data.path, encoder: encoder(mask: .last), cache: cache)
                let other = try #require(try files(cache, ".tokens").first { $0 != file.path })
                bytes = try Data(contentsOf: URL(filePath: other))
            default:
                // Somewhere in records, index, summary and what ends the file.
                let part = try #require(Int(kind))
                bytes[part < 8 ? bytes.count * part / 8 : bytes.count - 20 * (part - 7)] ^= 0x10
            }
            try bytes.write(to: file)
            try setTime(of: file, daysAgo: 2)
            expectSame(whole, try Dataset(path: data.path, encoder: encoder(), cache: cache))
            let made = try inodes(cache)
            expectSame(whole, try Dataset(path: data.path, encoder: encoder(), cache: cache))
            #expect(try inodes(cache) == made, "it was mended")
        }
    }

    @Test("A token file that came from elsewhere is checked once and then trusted")
    func copied() throws {
        try withData { data, cache in
            let whole = try Dataset(path: data.path, encoder: encoder(), cache: cache)
            for note in try files(cache, ".digest") { try FileManager.default.removeItem(atPath: note) }
            let made = try inodes(cache)
            expectSame(whole, try Dataset(path: data.path, encoder: encoder(), cache: cache))
            #expect(try inodes(cache) == made)
            #expect(try files(cache, ".digest").count == 2)
        }
    }

    @Test("Where nothing can be kept, the data is read all the same, and a warning says so")
    func unwritable() throws {
        try withData { data, _ in
            let cache = TokenCache(directory: data.path + "/below/a/file", smallest: 1)
            let read = try Dataset(path: data.path, encoder: encoder(), cache: cache)
            #expect(read.examples.count == 40)
            #expect(read.warnings.count == 2)
            #expect(read.warnings[0].hasPrefix("train.jsonl: its tokens cannot be kept for the next run: "))
        }
    }

    @Test("Small data is not kept")
    func small() throws {
        try withData { data, cache in
            let cache = TokenCache(directory: cache.directory, smallest: 1 << 20)
            let read = try Dataset(path: data.path, encoder: encoder(), cache: cache)
            #expect(read.warnings.count == 1)
            #expect(!FileManager.default.fileExists(atPath: cache.directory))
        }
    }

    @Test("Bad rows leave nothing behind")
    func badRows() throws {
        try withData { data, cache in
            try Data("{\"prompt\":\"a\",\"completion\":\"b\"}\n{}\n".utf8).write(to: data)
            try setTime(of: data, daysAgo: 1)
            #expect(throws: TrainingDataError.self) {
                try Dataset(path: data.path, encoder: encoder(), cache: cache)
            }
            #expect(try files(cache, "").count == 1, "the digest of the data")
        }
    }

    @Test("What nobody used for a month is removed when something is written; what a killed run left, after a day")
    func removal() throws {
        try withData { data, cache in
            try cache.prepare()
            let directory = URL(filePath: cache.directory)
            for (name, days) in [
                ("old.tokens", 31.0), ("old.digest", 31), ("new.tokens", 29), ("other.txt", 400), (".lora-old", 2),
                (".lora-new", 0),
            ] {
                try Data("x".utf8).write(to: directory.appending(path: name))
                try setTime(of: directory.appending(path: name), daysAgo: days)
            }
            _ = try Dataset(path: data.path, encoder: encoder(), cache: cache)
            let names = try FileManager.default.contentsOfDirectory(atPath: cache.directory)
            #expect(names.filter { $0.count < 12 }.sorted() == [".lora-new", "new.tokens", "other.txt"])
        }
    }

    @Test("Many rows in many pieces keep their order and their lines")
    func order() throws {
        try TestFiles.withTemporaryDirectory { directory in
            let data = directory.appending(path: "rows.jsonl")
            let rows = (0..<3000).map { "{\"text\":\"row \($0) \(String(repeating: "x", count: 50))\"}\n\n" }
            try Data(rows.joined().utf8).write(to: data)
            let read = try Dataset(
                path: data.path, encoder: ExampleEncoder(tokenizer: tokenizer, format: nil, maximumLength: 99),
                cache: nil)
            #expect(read.examples.map(\.line) == (0..<3000).map { 2 * $0 + 1 })
            for number in [0, 1, 1499, 2999] {
                #expect(tokenizer.decode(read.examples[number].tokens).hasPrefix("row \(number) x"))
            }
        }
    }
}
