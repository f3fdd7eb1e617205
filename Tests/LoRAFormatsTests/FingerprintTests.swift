import Foundation
import Testing

@testable import LoRAFormats

@Suite("Base fingerprint")
struct FingerprintTests {
    /// A small base: keys and tensors can be changed and put in another order.
    private func write(
        to path: String, reversed: Bool = false, keys: [(String, GGUFValue)] = [], name: String = "b", byte: UInt8 = 9
    ) throws {
        let standard: [(String, GGUFValue)] = [
            ("general.architecture", .string("llama")), ("llama.block_count", .uint32(2)),
            ("llama.rope.freq_base", .float32(10000)), ("tokenizer.ggml.tokens", .strings(["a", "b"])),
        ]
        let all = standard.filter { key in !keys.contains { $0.0 == key.0 } } + keys
        var writer = GGUFWriter()
        for (key, value) in reversed ? all.reversed() : all { try writer.add(key, value) }
        let tensors: [(String, [UInt8])] = [("a", [1, 2, 3, 4]), (name, [5, 6, 7, byte])]
        for (name, bytes) in reversed ? tensors.reversed() : tensors {
            try writer.addTensor(name, type: .f32, shape: [1], bytes: bytes)
        }
        try writer.write(to: path)
    }

    private func fingerprint(_ change: (String) throws -> Void) throws -> String {
        try Support.withDirectory { directory in
            try change(directory + "/base.bin")
            return BaseFingerprint.fingerprint(of: try GGUFFile(path: directory + "/base.bin"))
        }
    }

    @Test("order, tokenizer and names do not count; hyperparameters and tensors do")
    func contents() throws {
        let first = try fingerprint { try write(to: $0) }
        // Pinned: adapters in use carry it. Computed apart by Scripts/goldens_formats.py.
        #expect(first == String(decoding: try Support.golden("base.fingerprint"), as: UTF8.self))
        let same = [
            try fingerprint { try write(to: $0, reversed: true) },
            try fingerprint { try write(to: $0, keys: [("general.name", .string("other"))]) },
            try fingerprint { try write(to: $0, keys: [("tokenizer.ggml.tokens", .strings(["x"]))]) },
        ]
        #expect(Set(same) == [first])
        let different = [
            try fingerprint { try write(to: $0, keys: [("general.architecture", .string("qwen2"))]) },
            try fingerprint { try write(to: $0, keys: [("llama.block_count", .uint32(3))]) },
            try fingerprint { try write(to: $0, keys: [("llama.block_count", .uint64(2))]) },
            try fingerprint { try write(to: $0, keys: [("llama.rope.dimension_count", .uint32(4))]) },
            try fingerprint { try write(to: $0, name: "c") },
            try fingerprint { try write(to: $0, byte: 8) },
        ]
        #expect(Set(different + [first]).count == different.count + 1)
    }

    @Test("the cache is used while the base stays the same, and only then")
    func cache() throws {
        try Support.withDirectory { directory in
            let path = directory + "/base.bin"
            let cache = path + ".fingerprint"
            try write(to: path)
            let first = BaseFingerprint.fingerprint(of: try GGUFFile(path: path))
            let text = String(decoding: try Data(contentsOf: URL(filePath: cache)), as: UTF8.self)
            // Another digest in the cache comes back, so the cache is read.
            let planted = String(repeating: "ab", count: 32)
            try AtomicFile.write(text.replacingOccurrences(of: first, with: planted), to: cache)
            #expect(BaseFingerprint.fingerprint(of: try GGUFFile(path: path)) == planted)
            // A changed base makes it worthless.
            try write(to: path, byte: 1)
            let second = BaseFingerprint.fingerprint(of: try GGUFFile(path: path))
            #expect(second != first && second != planted)
            let now = String(decoding: try Data(contentsOf: URL(filePath: cache)), as: UTF8.self)
            #expect(now.contains(second))
            // So does anything that is no cache.
            for garbage in ["", "{", "[]", "{\"size\":1}", now.replacingOccurrences(of: second, with: "xyz")] {
                try Support.overwrite(cache, Array(garbage.utf8))
                #expect(BaseFingerprint.fingerprint(of: try GGUFFile(path: path)) == second)
                #expect(try Data(contentsOf: URL(filePath: cache)) == Data(now.utf8))
            }
        }
    }

    @Test("a cache that cannot be written is done without")
    func unwritable() throws {
        try Support.withDirectory { directory in
            let path = directory + "/base.bin"
            try write(to: path)
            try FileManager.default.createDirectory(
                atPath: path + ".fingerprint", withIntermediateDirectories: false)
            let first = BaseFingerprint.fingerprint(of: try GGUFFile(path: path))
            #expect(first == BaseFingerprint.compute(try GGUFFile(path: path)))
            #expect(try Support.names(in: directory) == ["base.bin", "base.bin.fingerprint"])
        }
    }
}
