import CKernels
import LoRAFormats
import TestSupport
import Testing

// One test at a time: the CPU variant is the process's.
@Suite("Dequantisation", .serialized)
struct DequantizeTests {
    static let variants = [
        LORA_CPU_PORTABLE, LORA_CPU_AVX2, LORA_CPU_AVX512, LORA_CPU_AVX512_VNNI, LORA_CPU_AVX512_BF16,
    ]

    /// Runs `body` under every variant that this machine can run, and puts the best one back.
    private func withEveryVariant(_ body: (lora_cpu) throws -> Void) async throws {
        let lock = try await VariantLock.exclusiveWhenFree()
        defer { lock.release() }
        defer { lora_cpu_use(lora_cpu_best()) }
        for variant in Self.variants where lora_cpu_use(variant) == 0 { try body(variant) }
    }

    @Test("values equal the gguf package's bit for bit", arguments: GGUFTensorType.allCases)
    func values(type: GGUFTensorType) async throws {
        let blocks = try Support.golden("\(type.name).blocks")
        let expected = try Support.golden("\(type.name).values").withUnsafeBytes {
            Array($0.bindMemory(to: UInt32.self))
        }
        #expect(blocks.count / type.blockBytes * type.blockSize == expected.count)
        try await withEveryVariant { variant in
            // Every whole number of blocks: the last may take another path than the ones before.
            for count in [expected.count, type.blockSize, 7 * type.blockSize] {
                var values = [Float](repeating: .nan, count: count + 1)
                try #require(lora_dequantize(&values, blocks, lora_type(type.rawValue), count) == 0)
                #expect(values[..<count].map(\.bitPattern) == Array(expected[..<count]), "variant \(variant.rawValue)")
                #expect(values[count].isNaN, "wrote past the end")
            }
        }
    }

    @Test("bf16 is the nearest, ties to even", arguments: GGUFTensorType.allCases)
    func bf16(type: GGUFTensorType) async throws {
        let blocks = try Support.golden("\(type.name).blocks")
        let values = try Support.golden("\(type.name).values").withUnsafeBytes { Array($0.bindMemory(to: UInt32.self)) }
        let expected = values.map { bits in UInt16((UInt64(bits) + 0x7FFF + UInt64(bits >> 16 & 1)) >> 16) }
        try await withEveryVariant { variant in
            var rounded = [UInt16](repeating: 0xFFFF, count: values.count + 1)
            try #require(lora_dequantize_bf16(&rounded, blocks, lora_type(type.rawValue), values.count) == 0)
            #expect(Array(rounded.dropLast()) == expected, "variant \(variant.rawValue)")
            #expect(rounded.last == 0xFFFF, "wrote past the end")
        }
    }

    @Test("a NaN stays one in bf16")
    func notANumber() async throws {
        try await withEveryVariant { variant in
            let values: [UInt32] = [0x7F80_0001, 0xFFFF_FFFF, 0x7FC0_0000]
            var rounded = [UInt16](repeating: 0, count: 3)
            #expect(lora_dequantize_bf16(&rounded, values, LORA_F32, 3) == 0)
            #expect(rounded.allSatisfy { $0 & 0x7FFF > 0x7F80 }, "variant \(variant.rawValue)")
        }
    }

    @Test("an unknown type is refused")
    func unknown() {
        var value: Float = 0
        var half: UInt16 = 0
        #expect(lora_dequantize(&value, [UInt8](repeating: 0, count: 400), lora_type(11), 256) == -1)
        #expect(lora_dequantize_bf16(&half, [UInt8](repeating: 0, count: 400), lora_type(11), 256) == -1)
    }
}
