import CKernels
import Testing

extension KernelTests {
    @Suite("Weights in the engine's order, and transposes")
    struct Pack {
        func halves(_ x: [Float]) -> [UInt16] {
            var out = [UInt16](repeating: 0, count: x.count)
            lora_f32_to_bf16(&out, x, x.count)
            return out
        }

        @Test("16 outputs of K terms", arguments: Variant.all, [32, 96])
        func outputs(variant: Variant, K: Int) {
            variant.use {
                var numbers = Numbers(UInt64(K))
                let row = K + 64
                let rows = numbers.floats(16 * row)
                var packed = [Float](repeating: 7, count: K * 64)
                lora_pack_outputs_f32(&packed, 64, rows, row, K)
                var narrow = [Float](repeating: 7, count: K * 16 + 1)
                lora_pack_outputs_f32(&narrow, 16, rows, row, K)
                #expect(narrow[K * 16] == 7)
                let (from, before) = (halves(rows), halves([7])[0])
                var pairs = [UInt16](repeating: before, count: K * 64)
                lora_pack_outputs_bf16(&pairs, from, row, K)
                for k in 0..<K {
                    for i in 0..<16 { #expect(narrow[k * 16 + i] == rows[i * row + k]) }
                    for i in 0..<64 {
                        #expect(packed[k * 64 + i] == (i < 16 ? rows[i * row + k] : 7))
                        #expect(pairs[k / 2 * 128 + 2 * i + k % 2] == (i < 16 ? from[i * row + k] : before))
                    }
                }
            }
        }

        @Test("16 terms of N outputs", arguments: Variant.all, [64, 192])
        func terms(variant: Variant, N: Int) {
            variant.use {
                var numbers = Numbers(UInt64(N))
                let (row, block) = (N + 8, 64 * 48)
                let rows = numbers.floats(16 * row)
                let from = halves(rows)
                var packed = [Float](repeating: 7, count: N / 64 * block)
                var pairs = [UInt16](repeating: 7, count: N / 64 * block)
                lora_pack_terms_f32(&packed, 64, block, rows, row, N)
                let narrowBlock = 16 * 48
                var narrow = [Float](repeating: 7, count: N / 16 * narrowBlock)
                lora_pack_terms_f32(&narrow, 16, narrowBlock, rows, row, N)
                lora_pack_terms_bf16(&pairs, block, from, row, N)
                for n in 0..<N {
                    for k in 0..<48 {
                        let at = n / 64 * block
                        let narrowAt = n / 16 * narrowBlock + k * 16 + n % 16
                        #expect(narrow[narrowAt] == (k < 16 ? rows[k * row + n] : 7))
                        #expect(packed[at + k * 64 + n % 64] == (k < 16 ? rows[k * row + n] : 7))
                        #expect(pairs[at + k / 2 * 128 + n % 64 * 2 + k % 2] == (k < 16 ? from[k * row + n] : 7))
                    }
                }
            }
        }

        @Test(
            "The product with a packed weight, of any shape", arguments: Variant.all,
            [(1, 1, 1), (7, 16, 5), (13, 37, 64), (25, 48, 3), (26, 15, 18)])
        func product(variant: Variant, shape: (M: Int, N: Int, K: Int)) {
            variant.use {
                let (M, N, K) = shape
                let (xRow, yRow, block) = (K + 2, N + 3, 16 * (K + 1))
                var numbers = Numbers(UInt64(M * N * K))
                let (x, W) = (numbers.floats(M * xRow), numbers.floats(N * K))  // (M,K), (N,K)
                var packed = [Float](repeating: 0, count: (N + 15) / 16 * block)
                for n in 0..<N { for k in 0..<K { packed[n / 16 * block + k * 16 + n % 16] = W[n * K + k] } }
                for adds in [false, true] {
                    let before = numbers.floats(M * yRow)
                    var y = before
                    lora_packed_product(&y, yRow, x, xRow, packed, block, M, N, K, adds ? 1 : 0)
                    for m in 0..<M {
                        for n in 0..<yRow {
                            let (at, old) = (m * yRow + n, Double(before[m * yRow + n]))
                            guard n < N else {
                                #expect(y[at] == before[at])
                                continue
                            }
                            let sum = (0..<K).reduce(adds ? old : 0) {
                                $0 + Double(x[m * xRow + $1]) * Double(W[n * K + $1])
                            }
                            #expect(abs(Double(y[at]) - sum) < tolerance(terms: K + 1))
                        }
                        // The same row alone.
                        var own = Array(before[(m * yRow)..<((m + 1) * yRow)])
                        x.withUnsafeBufferPointer { x in
                            guard let x = x.baseAddress else { return }
                            lora_packed_product(&own, yRow, x + m * xRow, xRow, packed, block, 1, N, K, adds ? 1 : 0)
                        }
                        #expect(own == Array(y[(m * yRow)..<((m + 1) * yRow)]))
                    }
                }
            }
        }

        @Test("Transposes of any shape", arguments: Variant.all, [(1, 1), (5, 3), (16, 16), (37, 40), (128, 64)])
        func transposes(variant: Variant, shape: (T: Int, r: Int)) {
            variant.use {
                let (T, r) = shape
                var numbers = Numbers(UInt64(T * r))
                let x = numbers.floats(T * r)
                let width = (T + 15) / 16 * 16 + 16
                var out = [UInt16](repeating: 7, count: r * width + 1)
                var floats = [Float](repeating: 7, count: r * width + 1)
                lora_transpose_bf16(&out, width, x, 0.5, T, r)
                lora_transpose_f32(&floats, width, x, 0.5, T, r)
                for j in 0..<r {
                    for t in 0..<width - 16 {
                        #expect(out[j * width + t] == (t < T ? halves([x[t * r + j] * 0.5])[0] : 0))
                        #expect(floats[j * width + t] == (t < T ? x[t * r + j] * 0.5 : 0))
                    }
                    for t in width - 16..<width { #expect(out[j * width + t] == 7 && floats[j * width + t] == 7) }
                }
                #expect(out[r * width] == 7 && floats[r * width] == 7)

                let stride = T + 3
                let rows = numbers.floats(r * stride)
                var sum = x + [7]
                lora_add_transpose(&sum, rows, stride, T, r)
                for t in 0..<T { for j in 0..<r { #expect(sum[t * r + j] == x[t * r + j] + rows[j * stride + t]) } }
                #expect(sum[T * r] == 7)
            }
        }
    }
}
