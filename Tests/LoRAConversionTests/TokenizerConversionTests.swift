import Foundation
import LoRAFormats
import Testing

@testable import LoRAConversion
@testable import LoRAText

/// Files of the tests, and the lines and digests that Scripts/sentencepiece_goldens.py wrote.
enum TokenizerGoldens {
    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()
    static let directory = root.appending(path: "Tests/LoRAConversionTests/Goldens/tokenizers")
    static let names = ["metaspace-first", "metaspace-always", "prepend", "bare", "bytes"]

    static func metadata(in directory: String, vocabularySize: Int = 1700) throws -> [String: GGUFValue] {
        Dictionary(
            uniqueKeysWithValues: try TokenizerConversion.keys(directory: directory, vocabularySize: vocabularySize)
                .map { ($0.key, $0.value) })
    }

    static func metadata(_ name: String) throws -> [String: GGUFValue] {
        try metadata(in: directory.appending(path: name).path)
    }

    /// Every third line, as the script takes them.
    static func lines() throws -> [String] {
        let path = root.appending(path: "Tests/LoRATextTests/Goldens/tokenizer-lines.jsonl")
        let lines = try String(contentsOf: path, encoding: .utf8).utf8.split(separator: UInt8(ascii: "\n"))
        return try stride(from: 0, to: lines.count, by: 3).map { index in
            switch try JSONValue(parsing: Array(lines[index])) {
            case .string(let text): text
            case .array(let pair):
                String(
                    repeating: try #require(pair.first?.stringValue), count: try #require(pair.last?.intValue))
            default: throw FormatError("a line is neither a string nor a repetition")
            }
        }
    }

    /// The digests of ids and of decoded text for each line.
    static func digests(_ name: String) throws -> [(ids: UInt32, text: UInt32)] {
        let data = try Data(contentsOf: directory.appending(path: name + ".digests"))
        return data.withUnsafeBytes { bytes in
            stride(from: 0, to: bytes.count, by: 8).map { offset in
                func value(_ at: Int) -> UInt32 {
                    UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self))
                }
                return (value(offset), value(offset + 4))
            }
        }
    }

    /// FNV-1a.
    static func digest(_ bytes: some Sequence<UInt8>) -> UInt32 {
        bytes.reduce(0x811C_9DC5) { ($0 ^ UInt32($1)) &* 0x0100_0193 }
    }

    static func digest(_ ids: [Int32]) -> UInt32 {
        digest(ids.flatMap { id in withUnsafeBytes(of: id.littleEndian) { Array($0) } })
    }

    /// A directory that is removed when `body` ends.
    static func withDirectory<Result>(_ body: (String) throws -> Result) throws -> Result {
        let directory = FileManager.default.temporaryDirectory.appending(path: "tokenizer-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        return try body(directory.path)
    }

    /// The keys whose values differ; comparing the values in an expectation would print them.
    static func different(_ some: [String: GGUFValue], _ others: [String: GGUFValue]) -> [String] {
        Set(some.keys).union(others.keys).filter { some[$0] != others[$0] }.sorted()
    }

    /// A GGUF file with `metadata` alone.
    static func file(_ keys: [String: GGUFValue], in directory: String) throws -> GGUFFile {
        var writer = GGUFWriter()
        for (key, value) in keys { try writer.add(key, value) }
        try writer.write(to: directory + "/tokenizer.gguf")
        return try GGUFFile(path: directory + "/tokenizer.gguf")
    }
}

@Suite("Tokenizer conversion")
struct TokenizerConversionTests {
    @Test("Ids and decoded texts equal Hugging Face's on every line", arguments: TokenizerGoldens.names)
    func equalsReference(name: String) throws {
        let tokenizer = try Tokenizer(metadata: TokenizerGoldens.metadata(name))
        let lines = try TokenizerGoldens.lines()
        let digests = try TokenizerGoldens.digests(name)
        try #require(lines.count == digests.count && lines.count > 3000)
        var wrongIDs: [String] = []
        var wrongTexts: [String] = []
        for (line, expected) in zip(lines, digests) {
            let ids = tokenizer.encode(line)
            if TokenizerGoldens.digest(ids) != expected.ids { wrongIDs.append(line) }
            let text = tokenizer.decode(ids, skippingSpecial: false)
            if TokenizerGoldens.digest(text.utf8) != expected.text { wrongTexts.append(line) }
        }
        #expect(wrongIDs.count == 0, "\(wrongIDs.count) lines, first \(wrongIDs.prefix(4).map { $0.prefix(60) })")
        #expect(wrongTexts.count == 0, "\(wrongTexts.count) lines, first \(wrongTexts.prefix(4).map { $0.prefix(60) })")
    }

    @Test("Exported and imported again, every key is the same", arguments: TokenizerGoldens.names)
    func roundTrip(name: String) throws {
        let keys = try TokenizerGoldens.metadata(name)
        try TokenizerGoldens.withDirectory { directory in
            let file = try TokenizerGoldens.file(keys, in: directory)
            try TokenizerConversion.export(file, to: directory)
            let again = try TokenizerGoldens.metadata(in: directory)
            #expect(TokenizerGoldens.different(again, keys) == [])
        }
    }

    @Test("The real base's tokenizer, exported and imported again, has the same keys")
    func realBase() throws {
        let base = try GGUFFile(path: TokenizerGoldens.root.appending(path: "models/base.bin").path)
        try TokenizerGoldens.withDirectory { directory in
            try TokenizerConversion.export(base, to: directory)
            let keys = try TokenizerGoldens.metadata(in: directory, vocabularySize: 49152)
            let own = base.metadata.filter { $0.key.hasPrefix("tokenizer.") }
            #expect(
                TokenizerGoldens.different(keys, own) == [
                    "tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_space_prefix",
                ])
        }
    }

    @Test("SentencePiece's scores alone give the same ids as the merges", arguments: TokenizerGoldens.names.dropLast())
    func scoresAlone(name: String) throws {
        var keys = try TokenizerGoldens.metadata(name)
        keys["tokenizer.ggml.merges"] = nil
        let tokenizer = try Tokenizer(metadata: keys)
        let digests = try TokenizerGoldens.digests(name)
        let wrong = try zip(TokenizerGoldens.lines(), digests).filter { line, expected in
            TokenizerGoldens.digest(tokenizer.encode(line)) != expected.ids
        }
        #expect(wrong.count == 0, "first \(wrong.prefix(4).map { $0.0.prefix(60) })")
    }

    @Test("SentencePiece's ranges and streams", arguments: TokenizerGoldens.names.dropLast())
    func rangesAndStreams(name: String) throws {
        let tokenizer = try Tokenizer(metadata: TokenizerGoldens.metadata(name))
        var wrong: [String] = []
        for line in try TokenizerGoldens.lines() where line.utf8.count < 500 && !line.contains("▁") {
            let bytes = Array(line.utf8)
            let (ids, ranges) = tokenizer.encodeWithRanges(line)
            var end = 0
            var isRight = ids == tokenizer.encode(line)
            for (id, range) in zip(ids, ranges) where isRight {
                let token = tokenizer.bytes(of: id)
                isRight = range.lowerBound == end && range.upperBound <= bytes.count
                // A token may hold the space that the text lacks.
                isRight = isRight && (token[...] == bytes[range] || token == [0x20] + bytes[range])
                end = range.upperBound
            }
            var decoder = StreamingDecoder(tokenizer: tokenizer, skippingSpecial: false)
            let parts = ids.map { decoder.append($0) } + [decoder.finish()]
            isRight = isRight && end == bytes.count && parts.joined() == tokenizer.decode(ids, skippingSpecial: false)
            if !isRight { wrong.append(line) }
        }
        #expect(wrong.count == 0, "first \(wrong.prefix(4))")
    }

    @Test(
        "Bytes that are not UTF-8 keep their places",
        arguments: [[0x80], [0x20, 0xFF, 0x20], [0x61, 0xE4, 0xB8], [0xF0, 0x9F, 0x98, 0x61], [0xC0, 0x80]] as [[UInt8]]
    )
    func invalidBytes(bytes: [UInt8]) throws {
        for name in TokenizerGoldens.names {
            let tokenizer = try Tokenizer(metadata: TokenizerGoldens.metadata(name))
            let ids = bytes.withUnsafeBytes { tokenizer.encode(bytes: $0, parsingSpecial: true) }
            let decoded = ids.flatMap { tokenizer.bytes(of: $0) }
            #expect(decoded == bytes || tokenizer.stripsSpace && decoded == [0x20] + bytes, "\(name)")
        }
    }
}
