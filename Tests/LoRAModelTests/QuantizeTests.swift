import CKernels
import Foundation
import LoRAFormats
import Testing

@testable import LoRAModel

extension KernelTests {
    @Suite("Quantisation")
    struct QuantizeTests {
        static let quantized = GGUFTensorType.allCases.filter { $0.blockSize > 1 }
        private static let directory = URL(filePath: #filePath).deletingLastPathComponent()

        /// The data of `Scripts/merge_goldens.py`.
        static let data: [String: [Float]] = {
            var numbers = Numbers(1)
            let flat = numbers.floats(4096)
            return [
                "flat": flat, "tailed": flat.map { $0 * $0 * $0 }, "positive": flat.map { $0 + 2 },
                "sparse": flat.map { abs($0) < 0.9 ? 0 : $0 },
            ]
        }()

        private func quantize(
            _ values: [Float], _ type: GGUFTensorType, previous: [UInt8]? = nil
        ) throws -> [UInt8] {
            let size = try #require(type.byteCount(of: values.count))
            var blocks = [UInt8](repeating: 0xAA, count: size + 1)
            try #require(lora_quantize(&blocks, values, previous, lora_type(type.rawValue), values.count) == 0)
            #expect(blocks.removeLast() == 0xAA, "wrote past the end")
            return blocks
        }

        private func expand(_ blocks: [UInt8], _ type: GGUFTensorType) -> [Float] {
            var values = [Float](repeating: .nan, count: blocks.count / type.blockBytes * type.blockSize)
            lora_dequantize(&values, blocks, lora_type(type.rawValue), values.count)
            return values
        }

        private func error(_ blocks: [UInt8], _ type: GGUFTensorType, of values: [Float]) -> Double {
            zip(expand(blocks, type), values).reduce(0) { $0 + pow(Double($1.0) - Double($1.1), 2) }
        }

        @Test("Squared errors are at most llama.cpp's", arguments: quantized)
        func errors(type: GGUFTensorType) throws {
            let golden = try JSONDecoder().decode(
                [String: [String: Double]].self,
                from: Data(contentsOf: Self.directory.appending(path: "Goldens/quantize_errors.json")))
            let expected = try #require(golden[type.name])
            #expect(expected.count == Self.data.count)
            for (name, values) in Self.data {
                let own = error(try quantize(values, type), type, of: values)
                let other = try #require(expected[name])
                #expect(own <= other, "\(name): \(own), llama.cpp \(other)")
            }
        }

        @Test("Every variant makes the same blocks", arguments: GGUFTensorType.allCases)
        func variants(type: GGUFTensorType) throws {
            for values in Self.data.values {
                let expected = try quantize(values, type)
                let shifted = values.map { $0 + 0.01 }
                let requantized = try quantize(shifted, type, previous: expected)
                for variant in Variant.all {
                    try variant.use {
                        let own = try [quantize(values, type), quantize(shifted, type, previous: expected)]
                        #expect(own == [expected, requantized], "\(variant.testDescription)")
                    }
                }
            }
        }

        /// Blocks of any bits, extreme scales among them, as `DequantizeTests` has them.
        @Test("Blocks that are on the grid already come back with equal values", arguments: quantized)
        func grid(type: GGUFTensorType) throws {
            let path = Self.directory.deletingLastPathComponent().appending(
                path: "LoRAFormatsTests/Goldens/\(type.name).blocks")
            var blocks = [UInt8](try Data(contentsOf: path))
            // -128 is no code that is written.
            if type == .q8_0 { blocks = blocks.indices.map { $0 % 34 > 1 && blocks[$0] == 0x80 ? 0x81 : blocks[$0] } }
            let values = expand(blocks, type)
            #expect(expand(try quantize(values, type, previous: blocks), type) == values)
            for values in Self.data.values where type.blockSize == 32 {
                let rounded = expand(try quantize(values, type), type)
                #expect(expand(try quantize(rounded, type), type) == rounded)
            }
        }

        @Test("Beside earlier blocks, the error is at most that of leaving them", arguments: quantized)
        func nearGrid(type: GGUFTensorType) throws {
            for (name, values) in Self.data {
                let blocks = try quantize(values, type)
                let rounded = expand(blocks, type)
                var numbers = Numbers(7)
                let moved = zip(rounded, numbers.floats(rounded.count, scale: 0.02)).map { $0 + $1 }
                let again = try quantize(moved, type, previous: blocks)
                for start in stride(from: 0, to: moved.count, by: type.blockSize) {
                    let range = start..<start + type.blockSize
                    let place = start / type.blockSize * type.blockBytes
                    let bytes = place..<place + type.blockBytes
                    let left = error(Array(blocks[bytes]), type, of: Array(moved[range]))
                    let own = error(Array(again[bytes]), type, of: Array(moved[range]))
                    #expect(own <= left * (1 + 1e-5), "\(name), block at \(start)")
                }
            }
        }

        @Test("Half and bf16 are the nearest, ties to even; f32 is itself")
        func floats() throws {
            var numbers = Numbers(3)
            let special: [Float] = [0, -0.0, 65504, 65519.99, 65520, 1e-8, 5.96e-8, 3e38, .infinity, -.infinity]
            let values = numbers.floats(300, scale: 3) + special
            let halves = values.flatMap { value in withUnsafeBytes(of: Float16(value).bitPattern) { Array($0) } }
            #expect(try quantize(values, .f16) == halves)
            #expect(try quantize(values, .f32) == values.withUnsafeBytes { Array($0) })
            let bf16 = values.flatMap { value -> [UInt8] in
                let rounded = UInt16((UInt64(value.bitPattern) + 0x7FFF + UInt64(value.bitPattern >> 16 & 1)) >> 16)
                return withUnsafeBytes(of: rounded) { Array($0) }
            }
            #expect(try quantize(values, .bf16) == bf16)
        }

        @Test("What is not finite or too large is no trap", arguments: quantized)
        func hostile(type: GGUFTensorType) throws {
            for extreme in [Float.nan, .infinity, -.infinity, 3.4e38, -3.4e38, .leastNonzeroMagnitude, 0] {
                for place in [0, 17, 255] {
                    var values = [Float](repeating: 0.25, count: 256)
                    values[place] = extreme
                    let blocks = try quantize(values, type)
                    _ = try quantize(values, type, previous: blocks)
                    let all = [Float](repeating: extreme, count: 256)
                    let expanded = expand(try quantize(all, type, previous: blocks), type)
                    if extreme == 0 { #expect(expanded.allSatisfy { $0 == 0 }) }
                }
            }
            let noise = (0..<1024).map { UInt8(truncatingIfNeeded: $0 &* 167 &+ 13) }
            let whole = Array(noise.prefix(1024 / type.blockBytes * type.blockBytes))
            let count = whole.count / type.blockBytes * type.blockSize
            _ = try quantize([Float](repeating: 1, count: count), type, previous: whole)
        }

        @Test("An unknown type and a part of a block are refused")
        func refusals() {
            var blocks = [UInt8](repeating: 0, count: 2048)
            let values = [Float](repeating: 1, count: 512)
            #expect(lora_quantize(&blocks, values, nil, lora_type(11), 256) == -1)
            for type in Self.quantized {
                let count = 512 - type.blockSize / 2
                #expect(lora_quantize(&blocks, values, nil, lora_type(type.rawValue), count) == -1, "\(type)")
            }
        }
    }
}
