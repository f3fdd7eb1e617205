import CKernels
import Testing

extension KernelTests {
    @Suite("Product with a quantised matrix")
    struct QuantizedProduct {
        struct Format: Sendable, CustomTestStringConvertible {
            let type: lora_type, name: String, block: Int, bytes: Int
            var testDescription: String { name }
        }

        static let formats = [
            Format(type: LORA_F32, name: "F32", block: 1, bytes: 4),
            Format(type: LORA_F16, name: "F16", block: 1, bytes: 2),
            Format(type: LORA_BF16, name: "BF16", block: 1, bytes: 2),
            Format(type: LORA_Q4_0, name: "Q4_0", block: 32, bytes: 18),
            Format(type: LORA_Q4_1, name: "Q4_1", block: 32, bytes: 20),
            Format(type: LORA_Q5_0, name: "Q5_0", block: 32, bytes: 22),
            Format(type: LORA_Q5_1, name: "Q5_1", block: 32, bytes: 24),
            Format(type: LORA_Q8_0, name: "Q8_0", block: 32, bytes: 34),
            Format(type: LORA_Q4_K, name: "Q4_K", block: 256, bytes: 144),
            Format(type: LORA_Q5_K, name: "Q5_K", block: 256, bytes: 176),
            Format(type: LORA_Q6_K, name: "Q6_K", block: 256, bytes: 210),
        ]

        /// N rows of K weights of random bits; half-precision fields are kept below 2, so that all is finite.
        func weights(_ format: Format, N: Int, K: Int, seed: UInt64) -> [UInt8] {
            var numbers = Numbers(seed)
            let count = N * K / format.block * format.bytes
            var bytes = (0..<count).map { _ in UInt8(truncatingIfNeeded: numbers.next()) }
            for start in stride(from: 0, to: count, by: format.bytes) {
                switch format.type {
                case LORA_F32:
                    (bytes[start + 3], bytes[start + 2]) = (bytes[start + 3] & 0x80 | 0x3f, bytes[start + 2] & 0x7f)
                case LORA_F16: bytes[start + 1] &= 0xbf
                case LORA_BF16: (bytes[start + 1], bytes[start]) = (bytes[start + 1] & 0x80 | 0x3f, bytes[start] & 0x7f)
                case LORA_Q6_K: bytes[start + 209] &= 0xbf
                default:
                    bytes[start + 1] &= 0xbf
                    if format.block == 256 || [LORA_Q4_1, LORA_Q5_1].contains(format.type) { bytes[start + 3] &= 0xbf }
                }
            }
            return bytes
        }

        func product(_ x: [Float], _ W: [UInt8], _ format: Format, M: Int, N: Int, K: Int, stride: Int) -> [Float] {
            var y = [Float](repeating: 7, count: M * stride)
            #expect(lora_quantized_product(&y, stride, x, W, format.type, M, N, K, 0) == 0)
            return y
        }

        @Test("it agrees with the dequantised product, and a row with itself alone", arguments: Variant.all, formats)
        func reference(variant: Variant, format: Format) {
            variant.use {
                let sizes = format.block == 1 ? [1, 7, 33, 100] : format.block == 32 ? [32, 96, 2080] : [256, 2304]
                for K in sizes {
                    for (M, N) in [(1, 1), (1, 9), (2, 70), (3, 31), (4, 8), (7, 5), (13, 33)] {
                        let W = weights(format, N: N, K: K, seed: UInt64(K + N))
                        var numbers = Numbers(UInt64(M))
                        let x = numbers.floats(M * K)
                        var values = [Float](repeating: .nan, count: N * K)
                        #expect(lora_dequantize(&values, W, format.type, N * K) == 0)
                        var expected = [Double](repeating: 0, count: M * N)
                        lora_reference_product(&expected, doubles(x), 0, doubles(values), 1, 1, M, N, K)
                        let spread = product(x, W, format, M: M, N: N, K: K, stride: N + 2)
                        let (y, intact) = gathered(spread, width: N, stride: N + 2, gap: 7)
                        #expect(intact)
                        // Relative to the largest weight, not to the sum, as terms may cancel.
                        let magnitude = values.reduce(0.0) { max($0, abs(Double($1))) }
                        let limit = tolerance(terms: K) * magnitude * Double(K).squareRoot()
                        for (a, b) in zip(y, expected) { #expect(abs(Double(a) - b) <= limit, "\(M) \(N) \(K)") }
                        for m in 0..<M {
                            let alone = product(
                                Array(x[m * K..<(m + 1) * K]), W, format, M: 1, N: N, K: K, stride: N)
                            #expect(alone == Array(y[m * N..<(m + 1) * N]), "row \(m) of \(M) \(N) \(K)")
                        }
                    }
                }
            }
        }

        func roundedProduct(
            _ x: [Float], _ W: [UInt8], _ format: Format, M: Int, N: Int, K: Int, stride: Int, adds: Bool = false
        ) -> [Float] {
            var y = [Float](repeating: 7, count: M * stride)
            var rows = [UInt16](repeating: .max, count: lora_grouped_rows_count(M, K))
            lora_group_rows_bf16(&rows, x, M, K)
            #expect(lora_quantized_product_bf16(&y, stride, rows, W, format.type, M, N, K, adds ? 1 : 0, nil) == 0)
            return y
        }

        func integerProduct(
            _ x: [Float], _ W: [UInt8], _ format: Format, M: Int, N: Int, K: Int, stride: Int, adds: Bool = false
        ) -> [Float] {
            var y = [Float](repeating: 7, count: M * stride)
            var rows = [UInt8](repeating: .max, count: lora_int16_rows_size(M, K))
            // In two parts, as threads share them.
            lora_round_rows_int16(&rows, x, M, K, 0, K / 64)
            lora_round_rows_int16(&rows, x, M, K, K / 64, K / 32 - K / 64)
            #expect(lora_quantized_product_int16(&y, stride, rows, W, format.type, M, N, K, adds ? 1 : 0, nil) == 0)
            return y
        }

        static let integerFormats = formats.filter { lora_multiplies_int16($0.type) != 0 }

        @Test("in integers it is as exact as rows of 16 bits can be", arguments: Variant.all, integerFormats)
        func integerReference(variant: Variant, format: Format) {
            variant.use {
                for K in format.block == 32 ? [32, 96, 2080] : [256, 768, 2304] {
                    let shapes = [
                        (1, 1), (1, 35), (2, 70), (3, 5), (3, 16), (4, 11), (4, 33), (5, 9), (5, 17), (6, 18), (7, 32),
                        (8, 6), (8, 19), (13, 7), (33, 4),
                    ]
                    for (M, N) in shapes {
                        let W = weights(format, N: N, K: K, seed: UInt64(K + N))
                        var numbers = Numbers(UInt64(M))
                        // Of very different size from block to block, and one block of zeros.
                        var x = numbers.floats(M * K)
                        for index in x.indices { x[index] *= [1, 1e-3, 200][index / 32 % 3] }
                        for index in 0..<32 { x[index] = 0 }
                        var values = [Float](repeating: .nan, count: N * K)
                        #expect(lora_dequantize(&values, W, format.type, N * K) == 0)
                        var expected = [Double](repeating: 0, count: M * N)
                        lora_reference_product(&expected, doubles(x), 0, doubles(values), 1, 1, M, N, K)
                        let spread = integerProduct(x, W, format, M: M, N: N, K: K, stride: N + 2)
                        let (y, intact) = gathered(spread, width: N, stride: N + 2, gap: 7)
                        #expect(intact)
                        for m in 0..<M {
                            // Half of the last place of each block's integers, and rounding of the sums.
                            let blocks = stride(from: 0, to: K, by: 32).map { k in
                                x[m * K + k..<m * K + k + 32].reduce(0) { max($0, abs($1)) }
                            }
                            for n in 0..<N {
                                var limit = 0.0
                                for k in 0..<K {
                                    let weight = abs(Double(values[n * K + k])), largest = Double(blocks[k / 32])
                                    limit += weight * largest * (0.5 / 32639 + 4e-7)
                                }
                                let error = abs(Double(y[m * N + n]) - expected[m * N + n])
                                #expect(error <= limit, "\(m) \(n) of \(M) \(N) \(K)")
                            }
                        }
                        let sum = integerProduct(x, W, format, M: M, N: N, K: K, stride: N, adds: true)
                        #expect(sum == y.map { 7 + $0 }, "\(M) \(N) \(K)")
                    }
                }
            }
        }

        @Test(
            "a number that is not finite makes its row's results not finite, and no other's",
            arguments: Variant.all, [Float.nan, .infinity, -.infinity])
        func notFinite(variant: Variant, value: Float) {
            variant.use {
                for format in Self.integerFormats {
                    for M in [2, 7, 16] {
                        let K = max(64, format.block)
                        let W = weights(format, N: 20, K: K, seed: 1)
                        var numbers = Numbers(2)
                        var x = numbers.floats(M * K)
                        x[K + 40] = value
                        let y = integerProduct(x, W, format, M: M, N: 20, K: K, stride: 20)
                        for (index, number) in y.enumerated() { #expect(number.isFinite == (index / 20 != 1)) }
                    }
                }
            }
        }

        /// What bf16 holds of values.
        func rounded(_ values: [Float]) -> [Float] {
            var halves = [UInt16](repeating: 0, count: values.count)
            var floats = values
            lora_f32_to_bf16(&halves, values, values.count)
            lora_bf16_to_f32(&floats, halves, values.count)
            return floats
        }

        @Test("in bf16 it agrees with the product of what was rounded", arguments: Variant.all, formats)
        func roundedReference(variant: Variant, format: Format) {
            variant.use {
                let sizes = format.block == 1 ? [1, 7, 33, 100] : format.block == 32 ? [32, 96, 2080] : [256, 2304]
                for K in sizes {
                    for (M, N) in [(1, 1), (1, 9), (2, 70), (4, 11), (7, 5), (13, 7), (33, 4)] {
                        let W = weights(format, N: N, K: K, seed: UInt64(K + N))
                        var numbers = Numbers(UInt64(M))
                        let x = numbers.floats(M * K)
                        var halves = [UInt16](repeating: 0, count: N * K)
                        #expect(lora_dequantize_bf16(&halves, W, format.type, N * K) == 0)
                        var values = [Float](repeating: .nan, count: N * K)
                        lora_bf16_to_f32(&values, halves, N * K)
                        var expected = [Double](repeating: 0, count: M * N)
                        lora_reference_product(&expected, doubles(rounded(x)), 0, doubles(values), 1, 1, M, N, K)
                        let spread = roundedProduct(x, W, format, M: M, N: N, K: K, stride: N + 2)
                        let (y, intact) = gathered(spread, width: N, stride: N + 2, gap: 7)
                        #expect(intact)
                        let magnitude = values.reduce(0.0) { max($0, abs(Double($1))) }
                        let limit = tolerance(terms: K) * magnitude * Double(K).squareRoot()
                        for (a, b) in zip(y, expected) { #expect(abs(Double(a) - b) <= limit, "\(M) \(N) \(K)") }
                        let sum = roundedProduct(x, W, format, M: M, N: N, K: K, stride: N, adds: true)
                        #expect(sum == y.map { 7 + $0 }, "\(M) \(N) \(K)")
                    }
                }
            }
        }

        @Test("a row's bits depend neither on the number of rows nor on the others", arguments: Variant.all, formats)
        func independence(variant: Variant, format: Format) {
            variant.use {
                // A row that is longer than what is kept of decoded weights, and its remainder where there may be one.
                let sizes = format.block == 1 ? [100, 8211] : [768, 8448]
                for K in sizes {
                    let (most, N) = (33, 27)
                    let W = weights(format, N: N, K: K, seed: UInt64(K))
                    var numbers = Numbers(5)
                    let x = numbers.floats(most * K)
                    var products = [product, { roundedProduct($0, $1, $2, M: $3, N: $4, K: $5, stride: $6) }]
                    if lora_multiplies_int16(format.type) != 0 {
                        products.append { integerProduct($0, $1, $2, M: $3, N: $4, K: $5, stride: $6) }
                    }
                    for product in products {
                        let alone = (0..<most).map {
                            product(Array(x[$0 * K..<($0 + 1) * K]), W, format, 1, N, K, N)
                        }
                        for M in K < 1000 ? Array(2...most) : [2, 5, 16, most] {
                            let first = most - M  // so that a row has another place in its group each time
                            let y = product(Array(x[(first * K)...]), W, format, M, N, K, N)
                            #expect(y == Array(alone[first...].joined()), "\(M) rows of \(K)")
                        }
                    }
                }
            }
        }

        @Test("an unknown type and a part of a block are refused", arguments: Variant.all)
        func unknown(variant: Variant) {
            variant.use {
                var y: [Float] = [0]
                let x = [Float](repeating: 0, count: 32)
                #expect(lora_quantized_product_int16(&y, 1, x, x, LORA_Q5_0, 1, 1, 256, 0, nil) == -1)
                #expect(lora_quantized_product_int16(&y, 1, x, x, LORA_Q6_K, 1, 1, 255, 0, nil) == -1)
                #expect(lora_quantized_product_int16(&y, 1, x, x, LORA_Q8_0, 1, 1, 31, 0, nil) == -1)
                #expect(lora_quantized_product(&y, 1, x, x, lora_type(rawValue: 99), 1, 1, 32, 0) == -1)
                #expect(lora_quantized_product_bf16(&y, 1, [], x, lora_type(rawValue: 99), 1, 1, 32, 0, nil) == -1)
                for format in QuantizedProduct.formats where format.block > 1 {
                    #expect(lora_quantized_product(&y, 1, x, x, format.type, 1, 1, format.block - 1, 0) == -1)
                    let part = format.block - 1
                    #expect(lora_quantized_product_bf16(&y, 1, [], x, format.type, 1, 1, part, 0, nil) == -1)
                }
            }
        }
    }
}
