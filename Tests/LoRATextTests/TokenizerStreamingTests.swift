import LoRAFormats
import Testing

@testable import LoRAText

@Suite("Streaming decoder")
struct TokenizerStreamingTests {
    /// One id per byte, whatever the merges say.
    static func byteIDs(_ tokenizer: Tokenizer, _ bytes: [UInt8]) throws -> [Int32] {
        try bytes.map { byte in
            var text: [UInt8] = []
            ByteAlphabet.appendCharacter(of: byte, to: &text)
            return try #require(tokenizer.id(of: String(decoding: text, as: UTF8.self)))
        }
    }

    @Test(
        "A character comes out whole, with its last byte",
        arguments: [
            "é", "中文", "😀", "👨‍👩‍👧‍👦", "e\u{301}", "a\u{10FFFF}b", "🏳️‍🌈 नमस्ते", "\u{800}\u{7FF}\u{FFFF}\u{10000}\u{D7FF}\u{E000}",
        ])
    func wholeCharacters(text: String) throws {
        let tokenizer = try TinyVocabulary.tokenizer()
        var decoder = StreamingDecoder(tokenizer: tokenizer)
        var parts: [String] = []
        for id in try Self.byteIDs(tokenizer, Array(text.utf8)) { parts.append(decoder.append(id)) }
        #expect(decoder.finish() == "")
        #expect(parts.filter { !$0.isEmpty } == text.unicodeScalars.map { String($0) })
        for (index, byte) in text.utf8.enumerated() where index + 1 < text.utf8.count {
            let next = Array(text.utf8)[index + 1]
            if next & 0xC0 == 0x80 { #expect(parts[index].isEmpty, "byte \(index), \(byte)") }
        }
    }

    @Test("An emoji over two tokens, with a special token between characters")
    func emojiOverTokens() throws {
        let tokenizer = try TinyVocabulary.tokenizer()
        let ids = try ["ðŁ", "ĺĢ", "<|im_end|>", "hello", "ðŁ"].map { try #require(tokenizer.id(of: $0)) }
        var decoder = StreamingDecoder(tokenizer: tokenizer)
        #expect(ids.map { decoder.append($0) } == ["", "😀", "", "hello", ""])
        #expect(decoder.finish() == "\u{FFFD}" && decoder.finish() == "")
        var showing = StreamingDecoder(tokenizer: tokenizer, skippingSpecial: false)
        #expect(ids.map { showing.append($0) } == ["", "😀", "<|im_end|>", "hello", ""])
    }

    @Test(
        "Put together, the parts are what decode gives, also for bytes that are not UTF-8", arguments: TinyBytes.samples
    )
    func equalsDecode(bytes: [UInt8]) throws {
        let tokenizer = try TinyVocabulary.tokenizer()
        for ids in try [
            Self.byteIDs(tokenizer, bytes), bytes.withUnsafeBytes { tokenizer.encode(bytes: $0, parsingSpecial: true) },
        ] {
            for skipping in [true, false] {
                var decoder = StreamingDecoder(tokenizer: tokenizer, skippingSpecial: skipping)
                let parts = ids.map { decoder.append($0) } + [decoder.finish()]
                #expect(parts.joined() == tokenizer.decode(ids, skippingSpecial: skipping))
            }
        }
    }

    @Test("Random bytes stream to what decode gives")
    func randomBytes() throws {
        let tokenizer = try TinyVocabulary.tokenizer()
        var state: UInt64 = 7
        let interesting: [UInt8] = [
            0x41, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC2, 0xE0, 0xE4, 0xED, 0xF0, 0xF3, 0xF4, 0xF5,
        ]
        for _ in 0..<2000 {
            let bytes = (0..<8).map { _ in
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return interesting[Int(state >> 33) % interesting.count]
            }
            let ids = try Self.byteIDs(tokenizer, bytes)
            var decoder = StreamingDecoder(tokenizer: tokenizer)
            let parts = ids.map { decoder.append($0) } + [decoder.finish()]
            try #require(parts.joined() == tokenizer.decode(ids), "\(bytes)")
        }
    }
}
