import Testing

@testable import LoRAFormats

@Suite("Hostile GGUF files")
struct GGUFHostileTests {
    typealias G = GGUFBytes

    private func message(_ change: (inout GGUFBytes) -> Void) throws -> String {
        var file = GGUFBytes()
        change(&file)
        return try Support.withFile(file.bytes) { path in
            let message = Support.message { _ = try GGUFFile(path: path) }
            #expect(message.hasPrefix(path + ": "))
            return String(message.dropFirst(path.count + 2))
        }
    }

    private func expect(
        _ part: String, sourceLocation: SourceLocation = #_sourceLocation, _ change: (inout GGUFBytes) -> Void
    ) throws {
        let message = try message(change)
        #expect(message.contains(part), "\(message)", sourceLocation: sourceLocation)
    }

    @Test("the smallest files can be read")
    func smallest() throws {
        let empty = try Support.withFile(GGUFBytes().bytes) { try GGUFFile(path: $0) }
        #expect(empty.tensors.isEmpty && empty.keys.isEmpty)
        var file = GGUFBytes(version: 2, keys: [G.key("a", type: 0, [7])], tensors: [G.tensor("t", [2])])
        file.data = [UInt8](repeating: 0, count: 8)
        try Support.withFile(file.bytes) { path in
            let file = try GGUFFile(path: path)
            #expect(file.metadata["a"] == .uint8(7))
            #expect(file.tensors.first?.shape == [2])
        }
    }

    @Test("magic, version and byte order")
    func start() throws {
        try expect("not a GGUF file") { $0.magic = Array("GGML".utf8) }
        try expect("version 1 ") { $0.version = 1 }
        try expect("version 4 ") { $0.version = 4 }
        try expect("big-endian") { $0.version = 3 << 24 }
    }

    @Test("counts that cannot be", arguments: [1000, 1 << 32, 1 << 61, .max] as [UInt64])
    func counts(count: UInt64) throws {
        try expect("tensor count") { $0.tensorCount = count }
        try expect("key count") { $0.keyCount = count }
    }

    @Test("keys")
    func keys() throws {
        let huge = G.number(UInt64.max)
        try expect("type of key 'k' at byte 33 is 13") { $0.keys = [G.key("k", type: 13, [])] }
        try expect("duplicate key 'k' at byte 38") {
            $0.keys = [G.key("k", type: 0, [1]), G.key("k", type: 0, [1])]
        }
        try expect("empty name") { $0.keys = [G.key("", type: 0, [1, 0, 0])] }
        try expect("length of the name of key 0") { $0.keys = [huge + G.number(UInt32(0)) + [0, 0]] }
        try expect("not UTF-8") { $0.keys = [G.number(UInt64(1)) + [0xFF] + G.number(UInt32(0)) + [1, 0]] }
        try expect("a boolean") { $0.keys = [G.key("k", type: 7, [2])] }
        try expect("length of the value of key 'k'") { $0.keys = [G.key("k", type: 8, huge)] }
        try expect("not UTF-8") { $0.keys = [G.key("k", type: 8, G.number(UInt64(1)) + [0xC3])] }
        try expect("nested") { $0.keys = [G.key("k", type: 9, G.number(UInt32(9)) + G.number(UInt64(1)))] }
        for type in [0, 4, 5, 6, 7, 8, 10, 12] as [UInt32] {
            for count in [1 << 20, 1 << 62, UInt64.max] {
                try expect("length of the array of key 'k'") {
                    $0.keys = [G.key("k", type: 9, G.number(type) + G.number(count))]
                }
            }
        }
        try expect("element type of the array of key 'k'") {
            $0.keys = [G.key("k", type: 9, G.number(UInt32(99)) + G.number(UInt64(1)))]
        }
        try expect("'k\\n\\u{1B}'") { $0.keys = [G.key("k\n\u{1B}", type: 77, [])] }
    }

    @Test("alignments that cannot be", arguments: [0, 4, 24, 1 << 21] as [UInt32])
    func alignment(value: UInt32) throws {
        try expect("general.alignment") { $0.keys = [G.key("general.alignment", type: 4, G.number(value))] }
    }

    @Test("tensors")
    func tensors() throws {
        func one(_ part: String, _ tensor: [UInt8], sourceLocation: SourceLocation = #_sourceLocation) throws {
            try expect(part, sourceLocation: sourceLocation) {
                $0.tensors = [tensor]
                $0.data = [UInt8](repeating: 0, count: 64)
            }
        }
        try one("tensor 't' (described at byte 24) has 0 dimensions", G.tensor("t", [1], count: 0))
        try one("has 5 dimensions", G.tensor("t", [1, 1, 1, 1, 1]))
        try one("dimension 0", G.tensor("t", [0]))
        try one("dimension 0", G.tensor("t", [4, 0]))
        try one("more elements than can be counted", G.tensor("t", [.max]))
        try one("more elements than can be counted", G.tensor("t", [1 << 32, 1 << 32]))
        try one("too large", G.tensor("t", [1 << 62]))
        try one("but the file ends", G.tensor("t", [1 << 40]))
        try one("but the file ends", G.tensor("t", [17]))
        try one("but the file ends", G.tensor("t", [9], offset: 32))
        try one("type number 16", G.tensor("t", [32], type: 16))
        try one("not whole Q4_1 blocks of 32", G.tensor("t", [16, 2], type: 3))
        try one("not whole Q4_K blocks of 256", G.tensor("t", [32], type: 12))
        try one("not a multiple of the alignment", G.tensor("t", [1], offset: 4))
        try one("offset of tensor 't'", G.tensor("t", [1], offset: .max - 31))
        try one("empty name", G.tensor("", [1]))
        try expect("is there twice") {
            $0.tensors = [G.tensor("t", [1]), G.tensor("t", [1], offset: 32)]
            $0.data = [UInt8](repeating: 0, count: 64)
        }
        try expect("tensors 't' and 'u' overlap") {
            $0.tensors = [G.tensor("t", [9]), G.tensor("u", [1], offset: 32)]
            $0.data = [UInt8](repeating: 0, count: 64)
        }
    }

    @Test("every truncation is refused; no changed byte crashes")
    func damage() throws {
        let golden = try Support.golden("all-types.gguf")
        let file = try GGUFFile(path: Support.goldenPath("all-types.gguf"))
        let headerSize = file.dataOffset
        // The writer pads the end of the last tensor, and a file without that padding is whole.
        let last = file.tensors.map { $0.offset + $0.byteCount }.max()
        let whole = Array(golden[..<(try #require(last))])
        func read(_ bytes: [UInt8]) throws {
            try bytes.withUnsafeBytes { bytes in
                for tensor in try GGUFHeader(reading: bytes).tensors {
                    #expect(tensor.offset + tensor.byteCount <= bytes.count)
                }
            }
        }
        try read(whole)
        Damage.truncate(whole) { try read($0) }
        // Changed tensor bytes are values like any other.
        Damage.change(whole, before: headerSize) { try read($0) }
    }
}
