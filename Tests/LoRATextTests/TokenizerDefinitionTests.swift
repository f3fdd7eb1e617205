import Foundation
import LoRAFormats
import Testing

@testable import LoRAText

/// A GGUF file without tensors, written key by key.
struct TinyGGUF {
    private var body = Data()
    private var count: UInt64 = 0

    private mutating func append(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.littleEndian) { body.append(contentsOf: $0) }
    }

    private mutating func append(_ text: String) {
        append(UInt64(text.utf8.count))
        body.append(contentsOf: text.utf8)
    }

    private mutating func key(_ key: String, type: UInt32) {
        count += 1
        append(key)
        append(type)
    }

    mutating func set(_ name: String, _ value: String) { key(name, type: 8); append(value) }
    mutating func set(_ name: String, _ value: UInt32) { key(name, type: 4); append(value) }
    mutating func set(_ name: String, _ value: Bool) { key(name, type: 7); append(UInt8(value ? 1 : 0)) }
    mutating func set(_ name: String, _ values: [String]) {
        key(name, type: 9)
        append(UInt32(8))
        append(UInt64(values.count))
        for value in values { append(value) }
    }
    mutating func set(_ name: String, _ values: [Int32]) {
        key(name, type: 9)
        append(UInt32(5))
        append(UInt64(values.count))
        for value in values { append(value) }
    }
    mutating func set(_ name: String, _ values: [UInt16]) {
        key(name, type: 9)
        append(UInt32(2))
        append(UInt64(values.count))
        for value in values { append(value) }
    }

    /// Opens the file; it is deleted again, which a map survives.
    func open() throws -> GGUFFile {
        var file = TinyGGUF()
        file.body = Data("GGUF".utf8)
        file.append(UInt32(3))
        file.append(UInt64(0))
        file.append(count)
        let path = FileManager.default.temporaryDirectory.appending(path: "tokenizer-\(UUID().uuidString).gguf")
        try (file.body + body).write(to: path)
        defer { try? FileManager.default.removeItem(at: path) }
        return try GGUFFile(path: path.path)
    }
}

@Suite("Tokenizer definitions")
struct TokenizerDefinitionTests {
    /// The tiny vocabulary's keys, but for those in `without`.
    static func gguf(without: Set<String> = [], _ more: (inout TinyGGUF) -> Void = { _ in }) -> TinyGGUF {
        let definition = TinyVocabulary.definition()
        var gguf = TinyGGUF()
        func wanted(_ key: String) -> Bool { !without.contains(key) }
        if wanted("model") { gguf.set("tokenizer.ggml.model", "gpt2") }
        if wanted("pre") { gguf.set("tokenizer.ggml.pre", "gpt-2") }
        if wanted("tokens") { gguf.set("tokenizer.ggml.tokens", definition.tokens) }
        if wanted("token_type") { gguf.set("tokenizer.ggml.token_type", definition.types) }
        if wanted("merges") { gguf.set("tokenizer.ggml.merges", definition.merges ?? []) }
        if wanted("bos_token_id") { gguf.set("tokenizer.ggml.bos_token_id", UInt32(definition.bosID ?? 0)) }
        more(&gguf)
        return gguf
    }

    /// The one line that refuses a file.
    static func refusal(_ gguf: TinyGGUF) throws -> String {
        let file = try gguf.open()
        do {
            _ = try Tokenizer(gguf: file)
            return "accepted"
        } catch let error as FormatError {
            #expect(error.file == file.path && !error.message.contains("\n") && error.message.utf8.count < 400)
            return error.message
        }
    }

    @Test("All keys are read from a GGUF file")
    func readsKeys() throws {
        let file = try Self.gguf { gguf in
            gguf.set("tokenizer.ggml.eos_token_id", 5 as UInt32)
            gguf.set("tokenizer.ggml.eot_token_id", 6 as UInt32)
            gguf.set("tokenizer.ggml.eom_token_id", 7 as UInt32)
            gguf.set("tokenizer.ggml.padding_token_id", 8 as UInt32)
            gguf.set("tokenizer.ggml.add_bos_token", true)
        }.open()
        let tokenizer = try Tokenizer(gguf: file)
        #expect(tokenizer.pieces("hello<|im|>12") == ["hello", "<|im|>", "12"])
        #expect(tokenizer.bosID == tokenizer.id(of: "<|im_start|>") && tokenizer.eosID == 5 && tokenizer.padID == 8)
        #expect(tokenizer.addsBOS)
        #expect(tokenizer.endIDs == [5, 6, 7, try #require(tokenizer.id(of: "<|im_end|>"))])
    }

    @Test("Token types may have any integer type, or be absent")
    func tokenTypes() throws {
        let types = TinyVocabulary.definition().types.map { UInt16($0) }
        let other = try Tokenizer(
            gguf: Self.gguf(without: ["token_type"]) { $0.set("tokenizer.ggml.token_type", types) }.open())
        #expect(other.pieces("<|im|>") == ["<|im|>"])
        let none = try Tokenizer(gguf: Self.gguf(without: ["token_type"]).open())
        #expect(none.pieces("<|im|>").count == 6 && none.pieces("<|im_end|>") == ["<|im_end|>"])
    }

    @Test("A missing key is named", arguments: ["model", "pre", "tokens", "merges"])
    func missingKey(key: String) throws {
        let refusal = try Self.refusal(Self.gguf(without: [key]))
        #expect(refusal.contains("tokenizer.ggml.\(key) is missing"), "\(refusal)")
    }

    @Test(
        "A key of another type is named", arguments: ["model", "pre", "tokens", "token_type", "merges", "bos_token_id"])
    func wrongType(key: String) throws {
        let refusal = try Self.refusal(Self.gguf(without: [key]) { $0.set("tokenizer.ggml.\(key)", true) })
        #expect(refusal.contains("tokenizer.ggml.\(key) is not"), "\(refusal)")
    }

    @Test(
        "What is not supported is refused by name",
        arguments: [
            ("model", "bert", "\"bert\""),
            ("pre", "tekken", "smollm, gpt-2, llama-bpe, qwen2"),
            ("pre", "default", "\"default\""),
            ("pre", "two\nlines\u{1B}[31m" + String(repeating: "x", count: 10_000), "…"),
        ])
    func unsupported(key: String, value: String, expected: String) throws {
        let refusal = try Self.refusal(Self.gguf(without: [key]) { $0.set("tokenizer.ggml.\(key)", value) })
        #expect(refusal.contains("tokenizer.ggml.\(key) is") && refusal.contains(expected), "\(refusal)")
        #expect(!refusal.unicodeScalars.contains("\u{1B}"))
    }

    @Test("Elements that make no sense are refused with their place")
    func wrongElements() throws {
        let definition = TinyVocabulary.definition()
        func refusal(_ key: String, _ change: (inout TinyGGUF) -> Void) throws -> String {
            try Self.refusal(Self.gguf(without: [key], change))
        }
        for merge in ["h", "", " ", "h e l", "h  e", "h zz", "zz h", "z z", " he", "he "] {
            let message = try refusal("merges") { $0.set("tokenizer.ggml.merges", ["h e", merge]) }
            #expect(message.contains("tokenizer.ggml.merges[1]"), "\(merge): \(message)")
        }
        #expect(try refusal("tokens") { $0.set("tokenizer.ggml.tokens", [String]()) }.contains("0 tokens"))
        #expect(
            try refusal("token_type") { $0.set("tokenizer.ggml.token_type", Array(definition.types.dropLast())) }
                .contains("\(definition.types.count - 1) elements for \(definition.types.count) tokens"))
        #expect(
            try refusal("token_type") { $0.set("tokenizer.ggml.token_type", [9] + definition.types.dropFirst()) }
                .contains("token_type[0] is 9"))
        let outside = UInt32(definition.tokens.count)
        for id in [outside, .max] {
            #expect(
                try refusal("bos_token_id") { $0.set("tokenizer.ggml.bos_token_id", id) }.contains(
                    "bos_token_id is \(id)"))
        }
        for name in ["eos", "eot", "eom", "padding"] {
            #expect(
                try refusal("") { $0.set("tokenizer.ggml.\(name)_token_id", outside) }.contains("\(name)_token_id is"))
        }
        var long = definition.tokens
        long[long.count - 1] = String(repeating: "<", count: 1025)
        #expect(try refusal("tokens") { $0.set("tokenizer.ggml.tokens", long) }.contains("1025 bytes"))
    }

    @Test("Odd but harmless vocabularies work")
    func oddVocabularies() throws {
        var definition = TinyVocabulary.definition()
        definition.tokens += ["", "", "hello", "<|im_end|>"]
        definition.types += [3, 1, 1, 3]
        let tokenizer = try Tokenizer(definition)
        #expect(tokenizer.encode("hello<|im_end|>") == (try TinyVocabulary.tokenizer().encode("hello<|im_end|>")))
        #expect(tokenizer.decode(tokenizer.encode("hello ")) == "hello ")
        definition.merges = []
        #expect(try Tokenizer(definition).encode("hello").count == 5)
        definition.tokens = ["a"]
        definition.types = []
        (definition.bosID, definition.eosID) = (nil, nil)
        #expect(try Tokenizer(definition).encode("banana") == [0, 0, 0])
    }

    @Test("The alphabet has one character for each byte, and back")
    func alphabet() throws {
        #expect(Set(ByteAlphabet.scalars).count == 256 && ByteAlphabet.scalars.count == 256)
        for byte in UInt8.min...UInt8.max {
            var text: [UInt8] = []
            ByteAlphabet.appendCharacter(of: byte, to: &text)
            #expect(ByteAlphabet.bytes(of: String(decoding: text, as: UTF8.self)) == [byte])
        }
        #expect(
            ByteAlphabet.scalars[0x20] == 0x120 && ByteAlphabet.scalars[0x0A] == 0x10A
                && ByteAlphabet.scalars[0xAD] == 0x143)
        #expect(ByteAlphabet.bytes(of: "a b") == nil && ByteAlphabet.bytes(of: "中") == nil)
    }
}
