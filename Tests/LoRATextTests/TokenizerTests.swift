import LoRAFormats
import Testing

@testable import LoRAText

/// A vocabulary small enough to know by heart: every byte, a few merges, special tokens.
enum TinyVocabulary {
    static let merges = [
        "h e", "l l", "he ll", "hell o", "Ġ w", "Ġ hello", "Ã ©", "ð Ł", "ĺ Ģ", "ðŁ ĺĢ", "o r", "1 2", "Ġ Ġ", "a a",
        "aa aa",
    ]
    static let special = ["<|im_start|>", "<|im_end|>", "<|im|>", "<|im", "<think>", "é<x>"]

    static func definition(preTokenizer: String = "gpt-2") -> TokenizerDefinition {
        var definition = TokenizerDefinition()
        definition.preTokenizer = preTokenizer
        definition.tokens = ByteAlphabet.scalars.compactMap { Unicode.Scalar($0).map { String(Character($0)) } }
        definition.tokens += merges.map { $0.split(separator: " ").joined() } + special
        let normal = definition.tokens.count - special.count
        definition.types = Array(repeating: 1, count: normal) + [3, 3, 3, 3, 4, 4]
        definition.merges = merges
        definition.bosID = normal
        definition.eosID = normal + 1
        return definition
    }

    static func tokenizer(preTokenizer: String = "gpt-2") throws -> Tokenizer {
        try Tokenizer(definition(preTokenizer: preTokenizer))
    }
}

extension Tokenizer {
    /// The texts of the tokens of `text`.
    func pieces(_ text: String, parsingSpecial: Bool = true) -> [String] {
        encode(text, parsingSpecial: parsingSpecial).map { token(of: $0) ?? "?" }
    }
}

@Suite("Tokenizer")
struct TokenizerTests {
    @Test(
        "Merges go by rank, leftmost first",
        arguments: [
            ("hello", ["hello"]), ("hell", ["hell"]), ("ello", ["e", "ll", "o"]), ("hello hello", ["hello", "Ġhello"]),
            ("aaa", ["aa", "a"]), ("aaaaa", ["aaaa", "a"]), ("aaaaaaa", ["aaaa", "aa", "a"]), ("", []), ("é", ["Ã©"]),
            ("lllo", ["ll", "l", "o"]), ("😀", ["ðŁĺĢ"]),
            ("   hello", ["ĠĠ", "Ġhello"]),
        ])
    func merges(text: String, expected: [String]) throws {
        #expect(try TinyVocabulary.tokenizer().pieces(text) == expected)
    }

    @Test(
        "Each pre-tokenizer cuts its own way",
        arguments: [
            ("smollm", "12  1", ["1", "2", "ĠĠ", "1"]), ("gpt-2", "12  1", ["12", "Ġ", "Ġ", "1"]),
            ("llama-bpe", "12121", ["12", "1", "2", "1"]), ("gpt-2", "12121", ["12", "12", "1"]),
            ("qwen2", "12121", ["1", "2", "1", "2", "1"]), ("llama-bpe", "  1", ["Ġ", "Ġ", "1"]),
            ("smollm", "  1", ["ĠĠ", "1"]), ("qwen2", "(hello", ["(", "hello"]),
        ])
    func cutsWords(preTokenizer: String, text: String, expected: [String]) throws {
        #expect(try TinyVocabulary.tokenizer(preTokenizer: preTokenizer).pieces(text) == expected)
    }

    @Test("A word that is a token as a whole needs no merges with llama-bpe, and only there")
    func ignoresMerges() throws {
        for (name, expected) in [("llama-bpe", ["zzz"]), ("gpt-2", ["z", "z", "z"])] {
            var definition = TinyVocabulary.definition(preTokenizer: name)
            definition.tokens.append("zzz")
            definition.types.append(1)
            #expect(try Tokenizer(definition).pieces("zzz") == expected)
        }
    }

    @Test("Special tokens: leftmost, then longest; control tokens only when parsed, user-defined ones always")
    func specialTokens() throws {
        let tokenizer = try TinyVocabulary.tokenizer()
        #expect(tokenizer.pieces("<|im_start|>hello<|im_end|>") == ["<|im_start|>", "hello", "<|im_end|>"])
        #expect(tokenizer.pieces("<|im_start<|im|>") == ["<|im", "_", "s", "t", "a", "r", "t", "<|im|>"])
        #expect(tokenizer.pieces("<|i<|im_end|>") == ["<", "|", "i", "<|im_end|>"])
        #expect(tokenizer.pieces("ééé<x>") == ["Ã©", "Ã©", "é<x>"])
        let plain = tokenizer.pieces("<|im|><think>", parsingSpecial: false)
        #expect(plain == ["<", "|", "i", "m", "|", ">", "<think>"])
        #expect(plain.joined() == "<|im|><think>")
    }

    @Test("Special tokens and their kinds")
    func kinds() throws {
        let tokenizer = try TinyVocabulary.tokenizer()
        let ids = tokenizer.encode("<|im_start|>hello<think><|im_end|>")
        #expect(ids.map(tokenizer.isSpecial) == [true, false, false, true])
        #expect(tokenizer.decode(ids) == "hello<think>")
        #expect(tokenizer.decode(ids, skippingSpecial: false) == "<|im_start|>hello<think><|im_end|>")
        #expect(tokenizer.endIDs == [ids[3]] && tokenizer.eosID == ids[3] && tokenizer.bosID == ids[0])
        for id in [-1, Int32(tokenizer.vocabularyCount), .max, .min] {
            #expect(tokenizer.token(of: id) == nil && tokenizer.bytes(of: id).isEmpty && !tokenizer.isSpecial(id))
        }
        #expect(
            tokenizer.id(of: "hello") == ids[1] && tokenizer.id(of: "nothing") == nil && tokenizer.id(of: "") == nil)
    }

    @Test("End tokens by name and by key, even when their type says plain text")
    func endTokens() throws {
        var definition = TinyVocabulary.definition()
        definition.tokens += ["<|eot_id|>", "<|end|>", "stop", "halt"]
        definition.types += [1, 3, 3, 3]
        definition.eotID = definition.tokens.count - 2
        definition.eomID = definition.tokens.count - 1
        let tokenizer = try Tokenizer(definition)
        let names = ["<|im_end|>", "<|eot_id|>", "<|end|>", "stop", "halt"]
        #expect(tokenizer.endIDs == Set(names.compactMap(tokenizer.id)))
        #expect(tokenizer.pieces("<|eot_id|>") == ["<|eot_id|>"])
        definition.tokens += ["<|return|>", "<|call|>"]
        definition.types += [3, 3]
        let several = try Tokenizer(definition)
        #expect(!several.endIDs.contains(try #require(several.id(of: "<|end|>"))))
        #expect(several.endIDs.contains(try #require(several.id(of: "<|return|>"))))
    }

    @Test("BOS is wanted when the file says so, or else when the pre-tokenizer's models do")
    func addsBOS() throws {
        for (name, key, expected) in [
            ("gpt-2", nil, false), ("gpt-2", true, true), ("llama-bpe", nil, true), ("llama-bpe", false, false),
        ] as [(String, Bool?, Bool)] {
            var definition = TinyVocabulary.definition(preTokenizer: name)
            definition.addsBOS = key
            #expect(try Tokenizer(definition).addsBOS == expected)
            definition.bosID = nil
            #expect(try !Tokenizer(definition).addsBOS)
        }
    }

    @Test("Tokens that differ only in their normal form are different tokens")
    func normalForms() throws {
        var definition = TinyVocabulary.definition()
        definition.tokens += ["<\u{E9}>", "<e\u{301}>"]
        definition.types += [3, 3]
        let tokenizer = try Tokenizer(definition)
        let last = Int32(tokenizer.vocabularyCount - 1)
        #expect(tokenizer.encode("<\u{E9}><e\u{301}>") == [last - 1, last])
        #expect(tokenizer.id(of: "<\u{E9}>") == last - 1 && tokenizer.id(of: "<e\u{301}>") == last)
    }

    @Test("Bytes that are not UTF-8 become their own tokens and come back", arguments: TinyBytes.samples)
    func invalidBytes(bytes: [UInt8]) throws {
        let tokenizer = try TinyVocabulary.tokenizer(preTokenizer: "smollm")
        let ids = bytes.withUnsafeBytes { tokenizer.encode(bytes: $0, parsingSpecial: true) }
        #expect(ids.flatMap(tokenizer.bytes) == bytes)
        #expect(tokenizer.decode(ids, skippingSpecial: false) == String(decoding: bytes, as: UTF8.self))
    }

    @Test("A byte without a token leaves no id, and its neighbours meet, as in Hugging Face's tokenizers")
    func missingByte() throws {
        var definition = TinyVocabulary.definition()
        let missing = try #require(definition.tokens.firstIndex(of: "!"))
        definition.tokens[missing] = "<unused>"
        let tokenizer = try Tokenizer(definition)
        let (ids, ranges) = tokenizer.encodeWithRanges("!12!! !!#!#")
        #expect(ids.map { tokenizer.token(of: $0) } == ["12", "Ġ", "#", "#"])
        #expect(ranges == [1..<3, 5..<6, 8..<9, 10..<11])
        #expect(tokenizer.encode("!!!").isEmpty)
    }

    @Test("Ranges are bytes, also inside characters")
    func ranges() throws {
        let tokenizer = try TinyVocabulary.tokenizer()
        let (ids, ranges) = tokenizer.encodeWithRanges("é 中<|im_end|>hello")
        #expect(ids.map { tokenizer.token(of: $0) } == ["Ã©", "Ġ", "ä", "¸", "Ń", "<|im_end|>", "hello"])
        #expect(ranges == [0..<2, 2..<3, 3..<4, 4..<5, 5..<6, 6..<16, 16..<21])
        let plain = tokenizer.encodeWithRanges("<|im|>", parsingSpecial: false)
        #expect(plain.ranges == (0..<6).map { $0..<$0 + 1 })
    }

    @Test("A megabyte without a space is merged in one piece")
    func longWord() throws {
        let tokenizer = try TinyVocabulary.tokenizer(preTokenizer: "llama-bpe")
        let count = 1 << 20
        let ids = tokenizer.encode(String(repeating: "a", count: count))
        #expect(ids == Array(repeating: try #require(tokenizer.id(of: "aaaa")), count: count / 4))
        let spaces = tokenizer.encodeWithRanges(String(repeating: " ", count: count) + "\n")
        #expect(spaces.ids.count == count / 2 + 1 && spaces.ranges.last == count..<count + 1)
    }

    @Test("A word longer than the limit is cut, and no byte is lost", arguments: 1...9)
    func wordOverTheLimit(limit: Int) throws {
        let vocabulary = try Vocabulary(TinyVocabulary.definition())
        var merger = BytePairMerger(vocabulary, longestWord: limit)
        var output = TokenSink(wantsRanges: true)
        let word = Array("helloaaaahello!".utf8)
        word.withUnsafeBufferPointer { merger.append($0, offset: 100, to: &output) }
        #expect(output.ids.flatMap(vocabulary.bytes) == word)
        #expect(output.ids.allSatisfy { vocabulary.bytes(of: $0).count <= limit })
        #expect(output.ranges.first?.lowerBound == 100 && output.ranges.last?.upperBound == 115)
        #expect(zip(output.ranges, output.ranges.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound })
    }

    @Test("NUL is a byte like any other")
    func nul() throws {
        let tokenizer = try TinyVocabulary.tokenizer()
        #expect(tokenizer.pieces("\0") == ["Ā"] && tokenizer.pieces("a\0b") == ["a", "Ā", "b"])
        #expect(tokenizer.decode(tokenizer.encode("a\0b")) == "a\0b")
    }

    @Test("Many threads share one tokenizer")
    func threads() async throws {
        let tokenizer = try TinyVocabulary.tokenizer()
        let text = String(repeating: "hello 12 é😀<|im_end|> ", count: 50)
        let expected = tokenizer.encode(text)
        await withTaskGroup(of: [Int32].self) { group in
            for _ in 0..<16 { group.addTask { tokenizer.encode(text) } }
            for await ids in group { #expect(ids == expected) }
        }
    }

    @Test("qwen2 brings text into normal form C, and its ranges are those of the text as it was")
    func normalizes() throws {
        let tokenizer = try TinyVocabulary.tokenizer(preTokenizer: "qwen2")
        let text = "he\u{301}e\u{301}x\u{1100}\u{1161}"
        let (ids, ranges) = tokenizer.encodeWithRanges(text)
        #expect(ids == tokenizer.encode("h\u{E9}\u{E9}x\u{AC00}"))
        #expect(ids.prefix(4).map { tokenizer.token(of: $0) } == ["h", "Ã©", "Ã©", "x"])
        #expect(ranges.prefix(4) == [0..<1, 1..<4, 4..<7, 7..<8])
        #expect(ranges.last?.upperBound == text.utf8.count)
        #expect(try TinyVocabulary.tokenizer(preTokenizer: "gpt-2").encode(text) != ids)
    }

    @Test("SentencePiece without tokens for a character, or for its bytes, uses the unknown token once, or nothing")
    func unknownCharacters() throws {
        var definition = TokenizerDefinition()
        definition.model = "llama"
        definition.tokens = ["<unk>", "<0x41>", "▁", "b", "bb"]
        definition.types = [2, 6, 1, 1, 1]
        definition.scores = [0, 0, 0, 0, -1]
        #expect(try Tokenizer(definition).pieces("bb A中b") == ["▁", "bb", "▁", "<0x41>", "b"])
        definition.unknownID = 0
        let tokenizer = try Tokenizer(definition)
        #expect(tokenizer.pieces("bb A中文b") == ["▁", "bb", "▁", "<0x41>", "<unk>", "b"])
        #expect(tokenizer.encodeWithRanges("中文b").ranges == [0..<0, 0..<6, 6..<7])
        #expect(tokenizer.decode(tokenizer.encode(" b A")) == " b A")
        definition.scores = [0, 0, 0, 0, .nan]
        #expect(throws: FormatError.self) { try Tokenizer(definition) }
        definition.scores = [0]
        #expect(throws: FormatError.self) { try Tokenizer(definition) }
    }
}

/// Bytes in all the ways that UTF-8 can be wrong.
enum TinyBytes {
    static let samples: [[UInt8]] = [
        [0xFF], [0xC3], [0xA9], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xF0, 0x9F, 0x98],
        Array("hello".utf8) + [0xE4, 0xB8] + Array("hello".utf8), [0xC3, 0xC3, 0xA9, 0xA9], [0xE2, 0x28, 0xA1],
        Array(UInt8.min...UInt8.max), [0xF0, 0x9F] + Array("<|im_end|>".utf8) + [0x98, 0x80],
        [0xC3] + Array("<think>".utf8),
        Array(repeating: 0x80, count: 1000), [0xE0, 0x80, 0x80, 0x00], [0xF8, 0x88, 0x80, 0x80, 0x80],
    ]
}
