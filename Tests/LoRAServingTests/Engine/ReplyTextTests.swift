import LoRAModel
import Testing

@testable import LoRAServing
@testable import LoRAText

@Suite("Text of replies")
struct ReplyTextTests {
    /// Every byte is a token; so are these, and one control token.
    static let words = ["hello", " world", "<e", "nd>", "ab", "ba", "aab", "bé", "é", "😀a", "a😀b"]

    /// The tokens' bytes, to be looked up: byte-level BPE spells bytes in an alphabet of its own.
    static let tokenizer: Tokenizer = {
        var definition = TokenizerDefinition()
        definition.preTokenizer = "gpt-2"
        definition.tokens = ByteAlphabet.scalars.compactMap { Unicode.Scalar($0).map { String(Character($0)) } }
        for word in words { definition.tokens.append(spelled(Array(word.utf8))) }
        // Parts of characters: "b" with the first byte of "é", its second byte with "a".
        definition.tokens.append(spelled([0x62, 0xC3]))
        definition.tokens.append(spelled([0xA9, 0x61]))
        definition.tokens.append("<|end|>")
        definition.types = Array(repeating: 1, count: definition.tokens.count - 1) + [3]
        definition.merges = []
        do { return try Tokenizer(definition) } catch { preconditionFailure("\(error)") }
    }()

    static func spelled(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        for byte in bytes { ByteAlphabet.appendCharacter(of: byte, to: &text) }
        return String(decoding: text, as: UTF8.self)
    }

    func id(_ bytes: [UInt8]) throws -> Int32 { try #require(Self.tokenizer.id(of: Self.spelled(bytes))) }
    func id(_ text: String) throws -> Int32 { try id(Array(text.utf8)) }
    func ids(_ texts: [String]) throws -> [Int32] { try texts.map { try id($0) } }

    /// The pieces of an answer, the last of `finish`; scores are the tokens' places.
    func pieces(_ ids: [Int32], stops: [String] = []) -> [ReplyText.Piece] {
        var reply = ReplyText(tokenizer: Self.tokenizer, stops: stops)
        return ids.enumerated().map { reply.append($1, score: .init(logprob: Float($0), alternatives: [])) }
            + [reply.finish()]
    }

    @Test("Without stop texts every token comes at once, characters whole")
    func plain() throws {
        let pieces = pieces(try ids(["hello", " world", "é"]))
        #expect(pieces.map(\.text) == ["hello", " world", "é", ""])
        #expect(pieces.flatMap(\.tokens).map(\.text) == ["hello", " world", "é"])
        #expect(!pieces.contains { $0.isStopped })
    }

    @Test("A character over several tokens comes with its last, and so do they")
    func multibyte() throws {
        let ids = try Array("a😀b".utf8).map { try id([$0]) }
        let pieces = pieces(ids)
        #expect(pieces.map(\.text) == ["a", "", "", "", "😀", "b", ""])
        #expect(pieces.map(\.tokens.count) == [1, 0, 0, 0, 4, 1, 0])
        #expect(pieces[4].tokens.map(\.text) == ["", "", "", "😀"])
        #expect(pieces[4].tokens.map(\.bytes) == [[0xF0], [0x9F], [0x98], [0x80]])
        #expect(pieces[4].tokens.map(\.logprob) == [1, 2, 3, 4])
    }

    @Test("An unfinished character at the end is U+FFFD, part of the last token's text")
    func unfinished() throws {
        let pieces = pieces([try id("a"), try id([0x62, 0xC3])])
        #expect(pieces.map(\.text) == ["a", "", "b\u{FFFD}"])
        #expect(pieces[2].tokens.map(\.text) == ["b\u{FFFD}"])
        let control = try #require(Self.tokenizer.id(of: "<|end|>"))
        let others = self.pieces([try id("a"), control, try id("b"), control])
        #expect(others.map(\.text) == ["a", "", "b", "", ""])
        #expect(others.map(\.tokens.count) == [1, 0, 2, 0, 1])
    }

    @Test("What may be a stop text is held back until that is decided")
    func held() throws {
        let ids = try ids(["hello", "<e", "n", "d", "hello"])
        let pieces = pieces(ids, stops: ["<end>"])
        #expect(pieces.map(\.text) == ["hello", "", "", "", "<endhello", ""])
        #expect(pieces[4].tokens.map(\.text) == ["<e", "n", "d", "hello"])
        // The end decides, too.
        #expect(self.pieces(Array(ids[..<3]), stops: ["<end>"]).map(\.text) == ["hello", "", "", "<en"])
    }

    @Test("A stop text inside and across tokens cuts the one it begins in and drops the others")
    func cut() throws {
        var pieces = pieces(try ids(["hello", "<e", "nd>", "hello"]), stops: ["<end>"])
        #expect(pieces.map(\.text) == ["hello", "", "", "", ""])
        #expect(pieces.map(\.isStopped) == [false, false, true, true, true])
        #expect(pieces.flatMap(\.tokens).map(\.text) == ["hello"])
        pieces = self.pieces(try ids([" world", "<e", "nd>"]), stops: ["rld<"])
        #expect(pieces.map(\.text) == ["", " wo", "", ""])
        #expect(pieces[1].tokens.map(\.text) == [" wo"] && pieces[1].tokens[0].bytes == Array(" wo".utf8))
        pieces = self.pieces(try ids(["hello"]), stops: ["l"])
        #expect(pieces[0].text == "he" && pieces[0].isStopped)
        pieces = self.pieces(try ids(["hello"]), stops: ["he"])
        #expect(pieces[0].text == "" && pieces[0].tokens.isEmpty && pieces[0].isStopped)
    }

    @Test("A stop text of several bytes over several tokens leaves none of them")
    func multibyteStop() throws {
        let ids = try [id("a"), id([0xC3]), id([0xA9]), id("b")]
        let pieces = pieces(ids, stops: ["é"])
        #expect(pieces.map(\.text) == ["a", "", "", "", ""])
        #expect(pieces.flatMap(\.tokens).map(\.text) == ["a"])
        #expect(pieces[2].isStopped)
        // The same first byte, another character.
        #expect(self.pieces(try [id("a"), id([0xC3]), id([0xA8])], stops: ["é"]).map(\.text) == ["a", "", "è", ""])
        // U+FFFD can be a stop text, and the end can complete it.
        let last = self.pieces(try [id("a"), id([0xC3])], stops: ["\u{FFFD}"])
        #expect(last.map(\.text) == ["a", "", ""] && last[2].isStopped && last[2].tokens.isEmpty)
    }

    @Test(
        "The stop text that is complete first ends the answer, the longest of those that end together",
        arguments: [
            (["abc", "b"], "aabcd", "aa"), (["abcd", "bc"], "xabcd", "xa"), (["bc", "abc"], "xabcd", "x"),
            (["aab"], "aaab", "a"), (["abab", "ba"], "cabab", "ca"), ([""], "abc", "abc"), (["c", "c"], "abc", "ab"),
            (["ab", "abc"], "zabc", "z"),
        ])
    func overlapping(stops: [String], text: String, expected: String) throws {
        let bytes = try text.utf8.map { try id([$0]) }
        let pieces = pieces(bytes, stops: stops)
        #expect(pieces.map(\.text).joined() == expected)
    }

    /// Where the first stop text begins that is complete in `text`.
    static func naiveCut(_ text: [UInt8], _ stops: [[UInt8]]) -> Int? {
        for end in 0...text.count {
            let found = stops.filter { $0.count <= end && Array(text[(end - $0.count)..<end]) == $0 }.map(\.count).max()
            if let found { return end - found }
        }
        return nil
    }

    @Test("Random answers are cut where a search of the whole text finds, and nothing is held in vain")
    func random() throws {
        var random = SplitMix64(seed: 11)
        let alphabet =
            try Self.words.map { try id($0) } + [0x61, 0x62, 0xC3, 0xA9, 0xF0, 0x9F, 0x98, 0x80].map { try id([$0]) }
            + [id([0x62, 0xC3]), id([0xA9, 0x61])]
        let pool = [
            "a", "b", "ab", "é", "aé", "😀", "ba😀", "aaa", "éa", "abab", "\u{FFFD}", "é\u{FFFD}a", "<end>", "lo wo",
        ]
        var stopped = 0
        for round in 0..<4000 {
            let ids = (0..<Int(random.next() % 12)).map { _ in alphabet[Int(random.next() % UInt64(alphabet.count))] }
            let stops = (0..<Int(random.next() % 4)).map { _ in pool[Int(random.next() % UInt64(pool.count))] }
            let patterns = stops.map { Array($0.utf8) }
            let whole = Array(Self.tokenizer.decode(ids).utf8)
            let cut = Self.naiveCut(whole, patterns)
            let expected = String(decoding: whole[..<(cut ?? whole.count)], as: UTF8.self)
            let pieces = pieces(ids, stops: stops)
            let comment: Comment = "round \(round): \(ids), \(stops)"
            try #require(pieces.map(\.text).joined() == expected, comment)
            for piece in pieces { try #require(piece.tokens.map(\.text).joined() == piece.text, comment) }
            try #require(pieces.last?.isStopped == (cut != nil), comment)
            if cut != nil { stopped += 1 } else { try #require(pieces.flatMap(\.tokens).count == ids.count, comment) }
            try expectPrompt(ids, stops: patterns, pieces: pieces, comment)
        }
        #expect(stopped > 1000 && stopped < 3500)
    }

    /// After every token before a stop, only tokens are held whose text a stop text may begin in, or that end with an
    /// unfinished character.
    func expectPrompt(_ ids: [Int32], stops: [[UInt8]], pieces: [ReplyText.Piece], _ comment: Comment) throws {
        var decoder = StreamingDecoder(tokenizer: Self.tokenizer)
        var (text, released, ends): ([UInt8], Int, [Int]) = ([], 0, [])
        for (index, token) in ids.enumerated() {
            text += Array(decoder.append(token).utf8)
            ends.append(text.count)
            released += pieces[index].text.utf8.count
            if pieces[index].isStopped { return }
            var rest = decoder
            let isUnfinished = !rest.finish().isEmpty
            let undecided = stops.flatMap { stop in (1...stop.count).filter { text.suffix($0) == stop.prefix($0) } }
                .max()
            let decided = text.count - (undecided ?? 0)
            let last = (isUnfinished ? ends.dropLast() : ends[...]).last { $0 <= decided } ?? 0
            try #require(released == last, comment)
        }
    }
}
