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
                lora_pack_outputs_f32(&packed, rows, row, K)
                let (from, before) = (halves(rows), halves([7])[0])
                var pairs = [UInt16](repeating: before, count: K * 64)
                lora_pack_outputs_bf16(&pairs, from, row, K)
                for k in 0..<K {
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
                lora_pack_terms_f32(&packed, block, rows, row, N)
                lora_pack_terms_bf16(&pairs, block, from, row, N)
                for n in 0..<N {
                    for k in 0..<48 {
                        let at = n / 64 * block
                        #expect(packed[at + k * 64 + n % 64] == (k < 16 ? rows[k * row + n] : 7))
                        #expect(pairs[at + k / 2 * 128 + n % 64 * 2 + k % 2] == (k < 16 ? from[k * row + n] : 7))
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
