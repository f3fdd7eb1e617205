import CKernels
import Testing

extension KernelTests {
    @Suite("Low-rank branch")
    struct LowRank {
        static let ranks = [1, 4, 7, 8, 9, 16, 31, 33, 64, 300]
        static let shapes: [(T: Int, wide: Int)] = [(1, 33), (7, 9), (8, 8), (9, 1), (31, 200), (70, 600)]

        /// The arguments of every operation; `wide` is C or N.
        struct Inputs {
            let T: Int, wide: Int, r: Int
            let x: [Float], h: [Float], A: [Float], B: [Float]

            init(T: Int, wide: Int, r: Int) {
                (self.T, self.wide, self.r) = (T, wide, r)
                var numbers = Numbers(UInt64(T * 1000 + wide + r))
                x = numbers.floats(T * wide)
                h = numbers.floats(T * r)
                A = numbers.floats(r * wide)
                B = numbers.floats(wide * r)
            }
        }

        @Test("down agrees with the reference", arguments: Variant.all, ranks)
        func down(variant: Variant, r: Int) {
            variant.use {
                for (T, C) in LowRank.shapes {
                    let inputs = Inputs(T: T, wide: C, r: r)
                    let x = strided(inputs.x, width: C, stride: C + 3, gap: .nan)
                    var h = [Float](repeating: .nan, count: T * r)
                    lora_lowrank_down(&h, x, C + 3, inputs.A, T, C, r)
                    var expected = [Double](repeating: 0, count: T * r)
                    lora_reference_product(&expected, doubles(inputs.x), 0, doubles(inputs.A), 1, 1, T, r, C)
                    #expect(error(h, expected) < tolerance(terms: C), "\(T) \(C)")

                    // dA += dh^T x
                    var dA = [Float](repeating: 0.5, count: r * C)
                    lora_lowrank_down_backward_weight(&dA, inputs.h, x, C + 3, T, C, r)
                    expected = [Double](repeating: 0.5, count: r * C)
                    lora_reference_product(&expected, doubles(inputs.h), 1, doubles(inputs.x), 0, 1, r, C, T)
                    #expect(error(dA, expected) < tolerance(terms: T), "\(T) \(C)")

                    // dx += dh A
                    var dx = strided(inputs.x, width: C, stride: C + 3, gap: 7)
                    lora_lowrank_down_backward_input(&dx, C + 3, inputs.h, inputs.A, T, C, r)
                    expected = doubles(inputs.x)
                    lora_reference_product(&expected, doubles(inputs.h), 0, doubles(inputs.A), 0, 1, T, C, r)
                    let (rows, intact) = gathered(dx, width: C, stride: C + 3, gap: 7)
                    #expect(error(rows, expected) < tolerance(terms: r), "\(T) \(C)")
                    #expect(intact)
                }
            }
        }

        @Test("up agrees with the reference", arguments: Variant.all, ranks)
        func up(variant: Variant, r: Int) {
            variant.use {
                let s: Float = 1.7
                for (T, N) in LowRank.shapes {
                    let inputs = Inputs(T: T, wide: N, r: r)
                    var y = strided(inputs.x, width: N, stride: N + 3, gap: 7)
                    lora_lowrank_up(&y, N + 3, inputs.h, inputs.B, s, T, N, r)
                    var expected = doubles(inputs.x)
                    lora_reference_product(&expected, doubles(inputs.h), 0, doubles(inputs.B), 1, Double(s), T, N, r)
                    let (rows, intact) = gathered(y, width: N, stride: N + 3, gap: 7)
                    #expect(error(rows, expected) < tolerance(terms: r), "\(T) \(N)")
                    #expect(intact)

                    // dh = s * dy B
                    let dy = strided(inputs.x, width: N, stride: N + 3, gap: .nan)
                    var dh = [Float](repeating: .nan, count: T * r)
                    lora_lowrank_up_backward_input(&dh, dy, N + 3, inputs.B, s, T, N, r)
                    expected = [Double](repeating: 0, count: T * r)
                    lora_reference_product(&expected, doubles(inputs.x), 0, doubles(inputs.B), 0, Double(s), T, r, N)
                    #expect(error(dh, expected) < tolerance(terms: N), "\(T) \(N)")

                    // dB += s * dy^T h
                    var dB = [Float](repeating: 0.5, count: N * r)
                    lora_lowrank_up_backward_weight(&dB, dy, N + 3, inputs.h, s, T, N, r)
                    expected = [Double](repeating: 0.5, count: N * r)
                    lora_reference_product(&expected, doubles(inputs.x), 1, doubles(inputs.h), 0, Double(s), N, r, T)
                    #expect(error(dB, expected) < tolerance(terms: T), "\(T) \(N)")
                }
            }
        }

        @Test(
            "B in blocks gives the same sums, in f32 and in bf16 bit for bit, and a row with itself alone",
            arguments: Variant.all, ranks)
        func blocks(variant: Variant, r: Int) {
            variant.use {
                for (T, wide) in LowRank.shapes + [(1, 64), (5, 96), (9, 16), (2, 576)] {
                    let inputs = Inputs(T: T, wide: wide, r: r)
                    // Numbers of bf16, so that both kinds hold the same.
                    var halves = [UInt16](repeating: 0, count: wide * r)
                    var (A, B) = (inputs.A, inputs.B)
                    lora_f32_to_bf16(&halves, inputs.B, wide * r)
                    lora_bf16_to_f32(&B, halves, wide * r)
                    lora_f32_to_bf16(&halves, inputs.A, wide * r)
                    lora_bf16_to_f32(&A, halves, wide * r)
                    #expect(lora_is_bf16(A, A.count) != 0 && lora_is_bf16(B, B.count) != 0)

                    let x = strided(inputs.x, width: wide, stride: wide + 3, gap: .nan)
                    var h = [Float](repeating: .nan, count: T * r), expectedH = h
                    lora_lowrank_down_bf16(&h, x, wide + 3, halves, T, wide, r)
                    lora_lowrank_down(&expectedH, x, wide + 3, A, T, wide, r)
                    #expect(h == expectedH, "\(T) \(wide)")

                    var blocks = [Float](repeating: .nan, count: lora_lowrank_blocks_count(wide, r))
                    lora_lowrank_to_blocks(&blocks, B, wide, r)
                    var halfBlocks = [UInt16](repeating: 0, count: blocks.count)
                    lora_f32_to_bf16(&halfBlocks, blocks, blocks.count)
                    let up = { (y: inout [Float], h: [Float], stride: Int, T: Int, isHalf: Bool) in
                        if isHalf {
                            lora_lowrank_up_blocks_bf16(&y, stride, h, halfBlocks, 1.7, T, wide, r)
                        } else {
                            lora_lowrank_up_blocks_f32(&y, stride, h, blocks, 1.7, T, wide, r)
                        }
                    }
                    var y = strided(inputs.x, width: wide, stride: wide + 3, gap: 7), other = y
                    up(&y, inputs.h, wide + 3, T, true)
                    up(&other, inputs.h, wide + 3, T, false)
                    #expect(y == other)
                    var expected = doubles(inputs.x)
                    lora_reference_product(
                        &expected, doubles(inputs.h), 0, doubles(B), 1, Double(Float(1.7)), T, wide, r)
                    let (rows, intact) = gathered(y, width: wide, stride: wide + 3, gap: 7)
                    #expect(error(rows, expected) < tolerance(terms: r), "\(T) \(wide)")
                    #expect(intact)
                    for t in 0..<T {
                        var alone = Array(inputs.x[t * wide..<(t + 1) * wide])
                        up(&alone, Array(inputs.h[t * r..<(t + 1) * r]), wide, 1, true)
                        #expect(alone == Array(rows[t * wide..<(t + 1) * wide]), "row \(t) of \(T) \(wide)")
                    }
                }
            }
        }

        @Test("A number that bf16 does not have is found wherever it is")
        func exactness() {
            for place in [0, 1, 31, 32, 99] {
                var values = [Float](repeating: -1.5, count: 100)
                #expect(lora_is_bf16(values, 100) != 0)
                values[place] = 1.001
                #expect(lora_is_bf16(values, 100) == 0)
                #expect(lora_is_bf16(values, place) != 0)
            }
        }

        @Test("the four gradients are the derivative of the branch", arguments: Variant.all, [4, 9])
        func derivative(variant: Variant, r: Int) {
            variant.use {
                let T = 5, C = 20, N = 18
                let s: Float = 0.8
                var numbers = Numbers(21)
                let x = numbers.floats(T * C), A = numbers.floats(r * C), B = numbers.floats(N * r)
                let dy = numbers.floats(T * N)
                var h = [Float](repeating: 0, count: T * r), dh = h
                lora_lowrank_down(&h, x, C, A, T, C, r)
                lora_lowrank_up_backward_input(&dh, dy, N, B, s, T, N, r)
                var dA = [Float](repeating: 0, count: r * C), dB = [Float](repeating: 0, count: N * r)
                var dx = [Float](repeating: 0, count: T * C)
                lora_lowrank_up_backward_weight(&dB, dy, N, h, s, T, N, r)
                lora_lowrank_down_backward_weight(&dA, dh, x, C, T, C, r)
                lora_lowrank_down_backward_input(&dx, C, dh, A, T, C, r)
                let loss = { (x: [Double], A: [Double], B: [Double]) in
                    var h = [Double](repeating: 0, count: T * r), y = [Double](repeating: 0, count: T * N)
                    lora_reference_product(&h, x, 0, A, 1, 1, T, r, C)
                    lora_reference_product(&y, h, 0, B, 1, Double(s), T, N, r)
                    return dot(y, doubles(dy))
                }
                expectGradient(dx, of: { loss($0, doubles(A), doubles(B)) }, at: x, seed: 1)
                expectGradient(dA, of: { loss(doubles(x), $0, doubles(B)) }, at: A, seed: 2)
                expectGradient(dB, of: { loss(doubles(x), doubles(A), $0) }, at: B, seed: 3)
            }
        }

        @Test("up gives the bits of a product with the scaled transpose of B", arguments: Variant.all, ranks)
        func transposed(variant: Variant, r: Int) {
            variant.use {
                let T = 6, N = 301
                let s: Float = 0.7
                let inputs = Inputs(T: T, wide: N, r: r)
                let scaled = (0..<r * N).map { inputs.B[$0 % N * r + $0 / N] * s }
                var y = inputs.x, other = inputs.x
                lora_lowrank_up(&y, N, inputs.h, inputs.B, s, T, N, r)
                lora_lowrank_down_backward_input(&other, N, inputs.h, scaled, T, N, r)
                #expect(y == other)
            }
        }

        @Test("a row alone gives the bits it gives among others", arguments: Variant.all, ranks)
        func rows(variant: Variant, r: Int) {
            variant.use {
                let T = 13, wide = 555
                let inputs = Inputs(T: T, wide: wide, r: r)
                var h = [Float](repeating: 0, count: T * r), dh = h, y = inputs.x, dx = inputs.x
                lora_lowrank_down(&h, inputs.x, wide, inputs.A, T, wide, r)
                lora_lowrank_up(&y, wide, inputs.h, inputs.B, 2, T, wide, r)
                lora_lowrank_up_backward_input(&dh, inputs.x, wide, inputs.B, 2, T, wide, r)
                lora_lowrank_down_backward_input(&dx, wide, inputs.h, inputs.A, T, wide, r)
                for t in 0..<T {
                    let x = Array(inputs.x[t * wide..<(t + 1) * wide]), row = Array(inputs.h[t * r..<(t + 1) * r])
                    var oneH = [Float](repeating: 0, count: r), oneDh = oneH, oneY = x, oneDx = x
                    lora_lowrank_down(&oneH, x, wide, inputs.A, 1, wide, r)
                    lora_lowrank_up(&oneY, wide, row, inputs.B, 2, 1, wide, r)
                    lora_lowrank_up_backward_input(&oneDh, x, wide, inputs.B, 2, 1, wide, r)
                    lora_lowrank_down_backward_input(&oneDx, wide, row, inputs.A, 1, wide, r)
                    #expect(oneH == Array(h[t * r..<(t + 1) * r]) && oneDh == Array(dh[t * r..<(t + 1) * r]))
                    #expect(oneY == Array(y[t * wide..<(t + 1) * wide]))
                    #expect(oneDx == Array(dx[t * wide..<(t + 1) * wide]))
                }
            }
        }
    }
}
