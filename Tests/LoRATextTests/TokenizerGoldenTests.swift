import Foundation
import LoRAFormats
import Testing

@testable import LoRAText

/// Lines of mixed text against Hugging Face's `tokenizers`; Scripts/tokenizer_goldens.py writes both files.
@Suite("Tokenizer goldens")
struct TokenizerGoldenTests {
    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()
    static let goldens = root.appending(path: "Tests/LoRATextTests/Goldens")
    /// The order in which the script writes its digests.
    static let preTokenizers = ["smollm", "gpt-2", "llama-bpe", "qwen2"]

    static func definition() throws -> TokenizerDefinition {
        try TokenizerDefinition(metadata: GGUFFile(path: root.appending(path: "models/base.bin").path).metadata)
    }

    static func lines() throws -> [String] {
        let text = try String(contentsOf: goldens.appending(path: "tokenizer-lines.jsonl"), encoding: .utf8)
        return try text.utf8.split(separator: UInt8(ascii: "\n")).map { line in
            switch try JSONValue(parsing: String(decoding: line, as: UTF8.self)) {
            case .string(let text): return text
            case .array(let pair):
                let unit = try #require(pair.first?.stringValue)
                return String(repeating: unit, count: try #require(pair.last?.intValue))
            default: throw FormatError("a line is neither a string nor a repetition")
            }
        }
    }

    /// FNV-1a over little-endian 32-bit ids.
    static func digest(_ ids: [Int32]) -> UInt32 {
        var value: UInt32 = 0x811C_9DC5
        for id in ids {
            withUnsafeBytes(of: id.littleEndian) { bytes in
                for byte in bytes { value = (value ^ UInt32(byte)) &* 0x0100_0193 }
            }
        }
        return value
    }

    @Test("Ids equal Hugging Face's on every line", arguments: preTokenizers)
    func idsEqualReference(preTokenizer: String) throws {
        var definition = try Self.definition()
        definition.preTokenizer = preTokenizer
        let tokenizer = try Tokenizer(definition)
        let lines = try Self.lines()
        let digests = try Data(contentsOf: Self.goldens.appending(path: "tokenizer-digests.bin"))
        #expect(lines.count >= 10_000)
        try #require(digests.count == Self.preTokenizers.count * lines.count * 4)
        let block = try #require(Self.preTokenizers.firstIndex(of: preTokenizer)) * lines.count
        var different: [Int] = []
        digests.withUnsafeBytes { digests in
            for (number, line) in lines.enumerated() {
                let expected = digests.loadUnaligned(fromByteOffset: (block + number) * 4, as: UInt32.self)
                if Self.digest(tokenizer.encode(line)) != UInt32(littleEndian: expected) { different.append(number) }
            }
        }
        let shown = different.prefix(5).map { "\($0 + 1): \(lines[$0].prefix(60).debugDescription)" }
        #expect(different.isEmpty, "\(different.count) lines differ, first \(shown)")
    }

    @Test("Ranges lie end to end and hold the bytes of their tokens", arguments: preTokenizers)
    func rangesHoldBytes(preTokenizer: String) throws {
        var definition = try Self.definition()
        definition.preTokenizer = preTokenizer
        let tokenizer = try Tokenizer(definition)
        // The base has no token for these, so they leave no id behind.
        let missing = Set(
            (UInt8.min...UInt8.max).filter { byte in
                var text: [UInt8] = []
                ByteAlphabet.appendCharacter(of: byte, to: &text)
                return tokenizer.id(of: String(decoding: text, as: UTF8.self)) == nil
            })
        #expect(missing.isSuperset(of: [0x04, 0x06, 0x13, 0x14, 0x16, 0x1D]))
        var wrong: [String] = []
        for line in try Self.lines() where line.utf8.count < 500 {
            let line = preTokenizer == "qwen2" ? line.precomposedStringWithCanonicalMapping : line
            let bytes = Array(line.utf8)
            let present = bytes.filter { !missing.contains($0) }
            let (ids, ranges) = tokenizer.encodeWithRanges(line)
            var isRight = ids.count == ranges.count && ids == tokenizer.encode(line)
            var end = 0
            for (id, range) in zip(ids, ranges) where isRight {
                isRight = range.lowerBound >= end && range.upperBound <= bytes.count
                isRight = isRight && bytes[end..<range.lowerBound].allSatisfy(missing.contains)
                isRight = isRight && tokenizer.bytes(of: id) == bytes[range].filter { !missing.contains($0) }
                end = range.upperBound
            }
            isRight = isRight && bytes[end...].allSatisfy(missing.contains)
            isRight =
                isRight && tokenizer.decode(ids, skippingSpecial: false) == String(decoding: present, as: UTF8.self)
            if !isRight { wrong.append(line.debugDescription) }
        }
        #expect(wrong.isEmpty, "\(wrong.count) lines are wrong, first \(wrong.prefix(5))")
    }

    @Test("What the real base says about its tokenizer")
    func realBase() throws {
        let gguf = try GGUFFile(path: Self.root.appending(path: "models/base.bin").path)
        let tokenizer = try Tokenizer(gguf: gguf)
        #expect(tokenizer.vocabularyCount == 49152)
        #expect(tokenizer.bosID == 1 && tokenizer.eosID == 2 && tokenizer.padID == 2 && !tokenizer.addsBOS)
        #expect(tokenizer.endIDs == [0, 2])
        #expect(tokenizer.token(of: 2) == "<|im_end|>" && tokenizer.id(of: "<|im_end|>") == 2 && tokenizer.isSpecial(2))
        #expect(
            tokenizer.encode("Hello 12345 world <|im_start|>x") == [19556, 216, 33, 34, 35, 36, 37, 905, 216, 1, 104])
        #expect(!tokenizer.encode("<|im_start|>", parsingSpecial: false).contains(1))
    }
}
