import LoRAFormats
import Testing

@Suite("GGUF reader")
struct GGUFFileTests {
    @Test("the real base model")
    func realModel() throws {
        let file = try GGUFFile(path: Support.base)
        #expect(file.keys.count == 33)
        #expect(file.tensors.count == 272)
        #expect(file.tensors.reduce(0) { $0 + $1.count } == 134_515_008)
        #expect(file.metadata["general.architecture"]?.stringValue == "llama")
        #expect(file.metadata["llama.rope.freq_base"]?.floatValue == 100_000)
        let down = try #require(file.tensor(named: "blk.0.ffn_down.weight"))
        #expect(down.shape == [576, 1536])
        #expect(down.type == .q4_1)
        #expect(file.bytes(of: down).count == down.byteCount)
        #expect(file.tensors.count { $0.type == .q4_1 } == 210)
        guard case .strings(let tokens) = file.metadata["tokenizer.ggml.tokens"] else {
            Issue.record("no tokens")
            return
        }
        #expect(tokens.count == 49152)
    }
}

@Suite("GGUF files of the gguf package")
struct GGUFGoldenTests {
    private var path: String { Support.goldenPath("all-types.gguf") }

    @Test("every key type")
    func keys() throws {
        let file = try GGUFFile(path: path)
        let expected: [(String, GGUFValue)] = [
            ("general.architecture", .string("llama")), ("test.uint8", .uint8(200)), ("test.int8", .int8(-100)),
            ("test.uint16", .uint16(60000)), ("test.int16", .int16(-30000)), ("test.uint32", .uint32(4_000_000_000)),
            ("test.int32", .int32(-2_000_000_000)), ("test.uint64", .uint64(1 << 63)),
            ("test.int64", .int64(-(1 << 62))),
            ("test.float32", .float32(0.1)), ("test.float64", .float64(0.1)), ("test.bool", .bool(true)),
            ("test.string", .string("héllo 😀")), ("test.strings", .strings(["a", "", "Ġb"])),
            ("test.int32s", .int32s([1, -2, 3])), ("test.float32s", .float32s([0.5, -1.25])),
            ("test.bools", .array([.bool(true), .bool(false)], elementType: 7)),
        ]
        #expect(file.keys == expected.map(\.0))
        for (key, value) in expected { #expect(file.metadata[key] == value) }
        #expect(file.metadata["test.uint64"]?.intValue == nil)
        #expect(file.metadata["test.int64"]?.intValue == -(1 << 62))
        #expect(file.metadata["test.float64"]?.floatValue == 0.1)
    }

    @Test("every tensor type", arguments: GGUFTensorType.allCases)
    func tensors(type: GGUFTensorType) throws {
        let file = try GGUFFile(path: path)
        let tensor = try #require(file.tensor(named: type.name))
        #expect(tensor.type == type)
        #expect(tensor.shape == (type.blockSize == 1 ? [3, 7] : [3, type.blockSize]))
        #expect(tensor.offset.isMultiple(of: 32))
        let bytes = withExtendedLifetime(file) { Array(file.bytes(of: tensor)) }
        #expect(bytes == (try Support.golden("all-types.\(type.name)")))
    }

    @Test("a copy by our writer is read alike, and byte for byte the same file", arguments: [32, 64])
    func copy(alignment: Int) throws {
        let file = try GGUFFile(path: path)
        try Support.withDirectory { directory in
            let copy = directory + "/copy.gguf"
            var writer = GGUFWriter(alignment: alignment)
            for key in file.keys { try writer.add(key, try #require(file.metadata[key])) }
            for tensor in file.tensors {
                try writer.addTensor(tensor.name, type: tensor.type, shape: tensor.shape) { sink in
                    // In parts, as a merge hands over rows.
                    let bytes = file.bytes(of: tensor)
                    try sink(UnsafeRawBufferPointer(rebasing: bytes[..<7]))
                    try sink(UnsafeRawBufferPointer(rebasing: bytes[7...]))
                }
            }
            try writer.write(to: copy)
            let read = try GGUFFile(path: copy)
            #expect(read.alignment == alignment)
            #expect(read.tensors.map(\.name) == file.tensors.map(\.name))
            for (first, second) in zip(read.tensors, file.tensors) {
                #expect(first.shape == second.shape)
                #expect(first.offset.isMultiple(of: alignment))
                #expect(read.bytes(of: first).elementsEqual(file.bytes(of: second)))
            }
            if alignment == 32 { #expect(read.map.bytes.elementsEqual(file.map.bytes)) }
        }
    }

    @Test("the writer refuses what it cannot write, and leaves nothing")
    func refusals() throws {
        try Support.withDirectory { directory in
            var writer = GGUFWriter()
            try writer.add("k", .bool(true))
            #expect(throws: FormatError.self) { try writer.add("k", .bool(true)) }
            #expect(throws: FormatError.self) { try writer.add("", .bool(true)) }
            #expect(throws: FormatError.self) { try writer.addTensor("t", type: .q4_1, shape: [2, 31], bytes: []) }
            #expect(throws: FormatError.self) { try writer.addTensor("t", type: .f32, shape: [], bytes: []) }
            #expect(throws: FormatError.self) { try writer.addTensor("t", type: .f32, shape: [0], bytes: []) }
            #expect(throws: FormatError.self) { try writer.addTensor("t", type: .f32, shape: [.max, 4], bytes: []) }
            for count in [3, 5] {
                var writer = writer
                try writer.addTensor("t", type: .f32, shape: [1], bytes: [UInt8](repeating: 0, count: count))
                #expect(throws: FormatError.self) { try writer.write(to: directory + "/x.gguf") }
            }
            let left = try Support.names(in: directory)
            #expect(left.isEmpty)
        }
    }
}
