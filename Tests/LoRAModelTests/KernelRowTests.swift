import CKernels
import Foundation
import Testing

extension KernelTests {
    @Suite("Choice of variant")
    struct Dispatch {
        @Test("a variant the machine runs can be chosen, another is refused")
        func choice() {
            for variant in Variant.all {
                variant.use { #expect(lora_cpu_current() == variant.cpu) }
            }
            #expect(lora_cpu_current() == lora_cpu_best())
            #expect(lora_cpu_use(lora_cpu(rawValue: lora_cpu_best().rawValue + 1)) == -1)
            #expect(lora_cpu_current() == lora_cpu_best())
        }
    }

    @Suite("RMSNorm")
    struct RMSNorm {
        func forward(_ x: [Float], _ weight: [Float], T: Int, C: Int) -> (out: [Float], rstd: [Float]) {
            var out = [Float](repeating: .nan, count: T * C), rstd = [Float](repeating: .nan, count: T)
            lora_rmsnorm_forward(&out, &rstd, x, weight, 1e-5, T, C)
            return (out, rstd)
        }

        @Test("forward and backward agree with the reference", arguments: Variant.all, oddSizes + [576])
        func reference(variant: Variant, C: Int) {
            variant.use {
                let T = 3
                var numbers = Numbers(UInt64(C))
                let x = numbers.floats(T * C), weight = numbers.floats(C), dout = numbers.floats(T * C)
                let before = numbers.floats(T * C)
                let (out, rstd) = forward(x, weight, T: T, C: C)
                var expected = [Double](repeating: 0, count: T * C)
                lora_reference_rmsnorm_forward(&expected, doubles(x), doubles(weight), Double(Float(1e-5)), T, C)
                #expect(error(out, expected) < tolerance(terms: C))

                var dx = before
                lora_rmsnorm_backward(&dx, dout, x, weight, rstd, T, C)
                expected = doubles(before)
                lora_reference_rmsnorm_backward(
                    &expected, doubles(dout), doubles(x), doubles(weight), Double(Float(1e-5)), T, C)
                #expect(error(dx, expected) < tolerance(terms: C))
            }
        }

        @Test("backward is the derivative of forward", arguments: Variant.all)
        func derivative(variant: Variant) {
            variant.use {
                let T = 2, C = 33
                var numbers = Numbers(1)
                let x = numbers.floats(T * C), weight = numbers.floats(C), dout = numbers.floats(T * C)
                let (_, rstd) = forward(x, weight, T: T, C: C)
                var dx = [Float](repeating: 0, count: T * C)
                lora_rmsnorm_backward(&dx, dout, x, weight, rstd, T, C)
                expectGradient(
                    dx,
                    of: { x in
                        var out = [Double](repeating: 0, count: T * C)
                        lora_reference_rmsnorm_forward(&out, x, doubles(weight), Double(Float(1e-5)), T, C)
                        return dot(out, doubles(dout))
                    }, at: x, seed: 2)
            }
        }

        @Test("a row alone gives the bits it gives among others; a row of zeros gives zeros", arguments: Variant.all)
        func rows(variant: Variant) {
            variant.use {
                let T = 9, C = 201
                var numbers = Numbers(3)
                var x = numbers.floats(T * C)
                let weight = numbers.floats(C)
                for c in 0..<C { x[4 * C + c] = 0 }
                let all = forward(x, weight, T: T, C: C)
                for t in 0..<T {
                    let one = forward(Array(x[t * C..<(t + 1) * C]), weight, T: 1, C: C)
                    #expect(one.out == Array(all.out[t * C..<(t + 1) * C]))
                    #expect(one.rstd == [all.rstd[t]])
                }
                #expect(all.out[4 * C..<5 * C].allSatisfy { $0 == 0 })
            }
        }
    }

    @Suite("Rotary embedding")
    struct Rotary {
        static let positions: [Int32] = [5, 0, 3, 3, 9]

        @Test(
            "rotation agrees with the reference and turns back; gaps stay", arguments: Variant.all,
            [2, 6, 8, 30, 62, 64, 96])
        func reference(variant: Variant, D: Int) {
            variant.use {
                let T = Rotary.positions.count, H = 3, stride = H * D + 5
                var numbers = Numbers(UInt64(D))
                let x = numbers.floats(T * H * D), angles = numbers.floats(10 * D / 2, scale: 3)
                let cosines = angles.map { Float(cos(Double($0))) }, sines = angles.map { Float(sin(Double($0))) }
                for halves: Int32 in [0, 1] {
                    var spread = strided(x, width: H * D, stride: stride, gap: 7)
                    lora_rope_forward(&spread, stride, Rotary.positions, cosines, sines, T, H, D, halves)
                    let (turned, intact) = gathered(spread, width: H * D, stride: stride, gap: 7)
                    var expected = doubles(x)
                    lora_reference_rope(
                        &expected, Rotary.positions, doubles(cosines), doubles(sines), 1, T, H, D, halves)
                    // Two products and a sum per element.
                    #expect(error(turned, expected) < 2e-7)
                    #expect(intact)
                    lora_rope_backward(&spread, stride, Rotary.positions, cosines, sines, T, H, D, halves)
                    // Rotated twice, with tables whose squares sum to 1 within rounding.
                    #expect(
                        error(gathered(spread, width: H * D, stride: stride, gap: 7).values, doubles(x)) < 6e-7)
                }
            }
        }

        @Test("backward is the derivative of forward", arguments: Variant.all, [Int32(0), 1])
        func derivative(variant: Variant, halves: Int32) {
            variant.use {
                let T = Rotary.positions.count, H = 2, D = 18
                var numbers = Numbers(6)
                let x = numbers.floats(T * H * D), dout = numbers.floats(T * H * D)
                let cosines = numbers.floats(10 * D / 2), sines = numbers.floats(10 * D / 2)
                var dx = dout
                lora_rope_backward(&dx, H * D, Rotary.positions, cosines, sines, T, H, D, halves)
                expectGradient(
                    dx,
                    of: { x in
                        var out = x
                        lora_reference_rope(
                            &out, Rotary.positions, doubles(cosines), doubles(sines), 1, T, H, D, halves)
                        return dot(out, doubles(dout))
                    }, at: x, seed: 7)
            }
        }
    }

    @Suite("SwiGLU")
    struct SwiGLU {
        @Test("forward and backward agree with the reference, in place too", arguments: Variant.all, oddSizes)
        func reference(variant: Variant, n: Int) {
            variant.use {
                var numbers = Numbers(UInt64(n))
                let gate = numbers.floats(n, scale: 8), up = numbers.floats(n), dout = numbers.floats(n)
                var out = [Float](repeating: .nan, count: n)
                lora_swiglu_forward(&out, gate, up, n)
                var expected = [Double](repeating: 0, count: n), second = expected
                lora_reference_swiglu_forward(&expected, doubles(gate), doubles(up), n)
                // A handful of roundings and an exponential of 1.5 units in the last place.
                #expect(error(out, expected) < 5e-7)

                lora_reference_swiglu_backward(
                    &expected, &second, doubles(dout), doubles(gate), doubles(up), n)
                var dgate = gate, dup = up
                dgate.withUnsafeMutableBufferPointer { gate in
                    dup.withUnsafeMutableBufferPointer { up in
                        guard let gate = gate.baseAddress, let up = up.baseAddress else { return }
                        lora_swiglu_backward(gate, up, dout, gate, up, n)
                    }
                }
                #expect(error(dgate, expected) < 5e-7)
                #expect(error(dup, second) < 5e-7)
            }
        }

        @Test("backward is the derivative of forward", arguments: Variant.all)
        func derivative(variant: Variant) {
            variant.use {
                let n = 33
                var numbers = Numbers(8)
                let gate = numbers.floats(n, scale: 4), up = numbers.floats(n), dout = numbers.floats(n)
                var dgate = gate, dup = up
                lora_swiglu_backward(&dgate, &dup, dout, gate, up, n)
                let loss = { (gate: [Double], up: [Double]) in
                    var out = [Double](repeating: 0, count: n)
                    lora_reference_swiglu_forward(&out, gate, up, n)
                    return dot(out, doubles(dout))
                }
                expectGradient(dgate, of: { loss($0, doubles(up)) }, at: gate, seed: 9)
                expectGradient(dup, of: { loss(doubles(gate), $0) }, at: up, seed: 10)
            }
        }

        @Test("huge gates give 0 or the gate, never NaN; a NaN stays", arguments: Variant.all)
        func extremes(variant: Variant) {
            variant.use {
                let gate: [Float] = [-1e30, -.infinity, -100, -88, 88, 100, 1e30, .infinity, .nan]
                let n = gate.count
                let ones = [Float](repeating: 1, count: n)
                var out = ones, dgate = ones, dup = ones
                lora_swiglu_forward(&out, gate, ones, n)
                lora_swiglu_backward(&dgate, &dup, ones, gate, ones, n)
                for i in 0..<4 {
                    #expect(abs(out[i]) < 1e-35 && abs(dgate[i]) < 1e-35 && abs(dup[i]) < 1e-35, "gate \(gate[i])")
                }
                for i in 4..<8 {
                    #expect(out[i] == gate[i] && dgate[i] == 1 && dup[i] == gate[i], "gate \(gate[i])")
                }
                #expect(out[8].isNaN && dgate[8].isNaN && dup[8].isNaN)
            }
        }
    }
}
