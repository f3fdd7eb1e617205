import CKernels
import Testing

extension KernelTests {
    @Suite("Elementwise")
    struct Elementwise {
        @Test("sums, scales, squares and finiteness", arguments: Variant.all, [0] + oddSizes + [1000])
        func elementwise(variant: Variant, n: Int) {
            variant.use {
                var numbers = Numbers(UInt64(n))
                let a = numbers.floats(n), b = numbers.floats(n)
                // One more float than asked for, which must stay.
                var out = a + [7]
                lora_add(&out, b, n)
                #expect(out == zip(a, b).map { $0 + $1 } + [7])
                out = a + [7]
                lora_scaled_f32(&out, a, 0.3, n)
                #expect(out == a.map { $0 * 0.3 } + [7])
                let squares = a.reduce(0.0) { $0 + Double($1) * Double($1) }
                // Double precision in another order.
                #expect(abs(lora_sum_of_squares(a, n) - squares) <= 1e-13 * squares)
                #expect(lora_all_finite(a, n) == 1)
                for place in [0, n / 2, n - 1] where n > 0 {
                    for bad: Float in [.nan, .infinity, -.infinity] {
                        var x = a
                        x[place] = bad
                        #expect(lora_all_finite(x, n) == 0)
                    }
                }
            }
        }

        @Test("the sum of squares has the same bits in every variant")
        func sameSum() {
            var numbers = Numbers(5)
            let x = numbers.floats(1003, scale: 100)
            var sums: Set<Double> = []
            for variant in Variant.all { variant.use { _ = sums.insert(lora_sum_of_squares(x, x.count)) } }
            #expect(sums.count == 1)
        }
    }

    @Suite("Conversions")
    struct Conversions {
        @Test("every half and every bf16 goes to f32 and back", arguments: Variant.all)
        func all(variant: Variant) {
            variant.use {
                let patterns = (0...65535).map { UInt16($0) }, n = patterns.count
                var floats = [Float](repeating: 7, count: n), back = [UInt16](repeating: 7, count: n)
                lora_f16_to_f32(&floats, patterns, n)
                lora_f32_to_f16(&back, floats, n)
                for (pattern, float) in zip(patterns, floats) {
                    let exponent = Int(pattern >> 10 & 31), mantissa = Float(pattern & 1023)
                    let sign: Float = pattern >> 15 == 1 ? -1 : 1
                    switch exponent {
                    case 31: #expect(mantissa == 0 ? float == sign * .infinity : float.isNaN)
                    case 0: #expect(float == sign * mantissa * 0x1p-24)
                    default:
                        #expect(
                            float == sign * Float(sign: .plus, exponent: exponent - 25, significand: 1024 + mantissa))
                    }
                    // A NaN that signals comes back quiet.
                    let quiet = pattern & 0x7fff > 0x7c00 ? pattern | 0x200 : pattern
                    #expect(back[Int(pattern)] == quiet)
                }
                lora_bf16_to_f32(&floats, patterns, n)
                lora_f32_to_bf16(&back, floats, n)
                for (pattern, float) in zip(patterns, floats) {
                    #expect(float.bitPattern == UInt32(pattern) << 16)
                    let quiet = pattern & 0x7fff > 0x7f80 ? pattern | 0x40 : pattern
                    #expect(back[Int(pattern)] == quiet)
                }
            }
        }

        @Test("halfway cases go to the even neighbour, at every length", arguments: Variant.all, oddSizes)
        func rounding(variant: Variant, n: Int) {
            variant.use {
                // Between two neighbours: just below, at, and just above the middle.
                let cases: [(Float, half: UInt16, brain: UInt16)] = [
                    (1 + 0x1p-11 - 0x1p-23, 0x3c00, 0x3f80), (1 + 0x1p-11, 0x3c00, 0x3f80),
                    (1 + 0x1p-11 + 0x1p-23, 0x3c01, 0x3f80), (1 + 0x1.8p-10, 0x3c02, 0x3f80),
                    (1 + 0x1p-8, 0x3c04, 0x3f80), (1 + 0x1p-8 + 0x1p-23, 0x3c04, 0x3f81),
                    (1 + 0x1.8p-7, 0x3c0c, 0x3f82), (65519.996, 0x7bff, 0x4780), (65520, 0x7c00, 0x4780),
                    (-1e10, 0xfc00, 0xd015), (0x1p-25, 0, 0x3300), (0x1.000002p-25, 1, 0x3300),
                    (0x1.8p-24, 2, 0x33c0), (-0x1p-14 + 0x1p-26, 0x8400, 0xb880), (-0.0, 0x8000, 0x8000),
                    (.greatestFiniteMagnitude, 0x7c00, 0x7f80),
                ]
                let x = (0..<n).map { cases[$0 % cases.count].0 }
                var half = [UInt16](repeating: 7, count: n + 1), brain = half
                lora_f32_to_f16(&half, x, n)
                lora_f32_to_bf16(&brain, x, n)
                for index in 0..<n {
                    let expected = cases[index % cases.count]
                    #expect(half[index] == expected.half, "\(x[index])")
                    #expect(brain[index] == expected.brain, "\(x[index])")
                }
                #expect(half[n] == 7 && brain[n] == 7)
            }
        }
    }

    @Suite("Dropout")
    struct Dropout {
        func forward(_ x: [Float], p: Float, seed: UInt64, offset: UInt64) -> [Float] {
            var out = [Float](repeating: .nan, count: x.count)
            lora_dropout_forward(&out, x, p, seed, offset, x.count)
            return out
        }

        @Test("an element depends on its place alone; every variant draws the same")
        func places() {
            var numbers = Numbers(1)
            let x = numbers.floats(500).map { $0 + 2 }
            // The counter's upper half changes within the array.
            let offset: UInt64 = (3 << 32) - 201
            var results: Set<[Float]> = []
            for variant in Variant.all {
                variant.use {
                    let whole = forward(x, p: 0.3, seed: 9, offset: offset)
                    results.insert(whole)
                    for size in oddSizes {
                        let start = 150
                        let part = forward(
                            Array(x[start..<start + size]), p: 0.3, seed: 9, offset: offset + UInt64(start))
                        #expect(part == Array(whole[start..<start + size]))
                    }
                    #expect(forward(x, p: 0.3, seed: 10, offset: offset) != whole)
                    #expect(forward(x, p: 0.3, seed: 9, offset: offset + 1) != whole)
                }
            }
            #expect(results.count == 1)
        }

        @Test(
            "it keeps 1 - p of the elements, scaled, without pattern", arguments: Variant.all, [Float(0.05), 0.5, 0.9])
        func share(variant: Variant, p: Float) {
            variant.use {
                let n = 100_000
                let out = forward([Float](repeating: 1, count: n), p: p, seed: 1, offset: 0)
                let kept = out.map { $0 != 0 }
                #expect(out.allSatisfy { $0 == 0 || $0 == 1 / (1 - p) })
                let share = Double(kept.count { $0 }) / Double(n), q = 1 - Double(p)
                // Five standard deviations of a binomial share.
                #expect(abs(share - q) < 5 * (q * (1 - q) / Double(n)).squareRoot())
                // Neighbours, and elements of rows of 64 and 576, are kept together as often as by chance.
                for distance in [1, 2, 64, 576] {
                    let both = (0..<n - distance).count { kept[$0] && kept[$0 + distance] }
                    let expected = q * q
                    #expect(
                        abs(Double(both) / Double(n - distance) - expected) < 8 * (expected / Double(n)).squareRoot())
                }
            }
        }

        @Test("backward passes where forward did, and adds", arguments: Variant.all, oddSizes)
        func backward(variant: Variant, n: Int) {
            variant.use {
                var numbers = Numbers(UInt64(n))
                let x = numbers.floats(n).map { $0 + 2 }, dout = numbers.floats(n)
                let out = forward(x, p: 0.4, seed: 2, offset: 77)
                var dx = [Float](repeating: 3, count: n) + [7]
                lora_dropout_backward(&dx, dout, 0.4, 2, 77, n)
                for i in 0..<n { #expect(abs(dx[i] - (out[i] == 0 ? 3 : 3 + dout[i] / 0.6)) < 1e-6) }
                #expect(dx[n] == 7)
                #expect(forward(x, p: 0, seed: 2, offset: 77) == x)
            }
        }
    }
}
