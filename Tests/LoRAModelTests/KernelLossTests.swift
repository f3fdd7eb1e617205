import CKernels
import Foundation
import Testing

extension KernelTests {
    @Suite("Cross-entropy")
    struct CrossEntropy {
        func targets(_ T: Int, _ V: Int) -> [Int32] { (0..<T).map { Int32(($0 * 37 + 5) % V) } }

        @Test("forward and backward agree with the reference", arguments: Variant.all, oddSizes + [5000])
        func reference(variant: Variant, V: Int) {
            variant.use {
                let T = 3
                var numbers = Numbers(UInt64(V))
                let logits = numbers.floats(T * V, scale: 12), targets = targets(T, V)
                var losses = [Float](repeating: .nan, count: T), logsumexp = losses
                lora_cross_entropy_forward(&losses, &logsumexp, logits, targets, T, V)
                var expected = [Double](repeating: 0, count: T), second = expected
                lora_reference_cross_entropy_forward(&expected, &second, doubles(logits), targets, T, V)
                // Rounding of values up to 24, absolute: with one token the loss itself is 0.
                for t in 0..<T {
                    #expect(abs(Double(losses[t]) - expected[t]) < 4e-6)
                    #expect(abs(Double(logsumexp[t]) - second[t]) < 4e-6)
                }
                var dlogits = logits
                lora_cross_entropy_backward(&dlogits, logsumexp, targets, 0.25, T, V)
                var gradient = [Double](repeating: 0, count: T * V)
                lora_reference_cross_entropy_backward(&gradient, doubles(logits), targets, 0.25, T, V)
                // A probability is as good as logsumexp is, absolutely: 2 units of 12.
                for (a, b) in zip(dlogits, gradient) { #expect(abs(Double(a) - b) < 1e-6) }
            }
        }

        @Test("backward is the derivative of forward", arguments: Variant.all)
        func derivative(variant: Variant) {
            variant.use {
                let T = 2, V = 41
                var numbers = Numbers(4)
                let logits = numbers.floats(T * V, scale: 3), targets = targets(T, V)
                var losses = [Float](repeating: 0, count: T), logsumexp = losses
                lora_cross_entropy_forward(&losses, &logsumexp, logits, targets, T, V)
                var dlogits = logits
                lora_cross_entropy_backward(&dlogits, logsumexp, targets, 0.5, T, V)
                expectGradient(
                    dlogits,
                    of: { logits in
                        var losses = [Double](repeating: 0, count: T), logsumexp = losses
                        lora_reference_cross_entropy_forward(&losses, &logsumexp, logits, targets, T, V)
                        return 0.5 * losses.reduce(0, +)
                    }, at: logits, seed: 5)
            }
        }

        @Test("huge logits overflow nowhere; excluded tokens count for nothing", arguments: Variant.all)
        func extremes(variant: Variant) {
            variant.use {
                let V = 33
                var logits = [Float](repeating: -3e38, count: V)
                logits[7] = 3e38
                logits[8] = -.infinity
                var losses: [Float] = [.nan], logsumexp: [Float] = [.nan]
                lora_cross_entropy_forward(&losses, &logsumexp, logits, [7], 1, V)
                #expect(losses == [0] && logsumexp == [3e38])
                lora_cross_entropy_backward(&logits, logsumexp, [7], 1, 1, V)
                #expect(logits.allSatisfy { $0 == 0 })
            }
        }

        @Test("rows do not depend on their company", arguments: Variant.all)
        func rows(variant: Variant) {
            variant.use {
                let T = 5, V = 777
                var numbers = Numbers(11)
                let logits = numbers.floats(T * V, scale: 5), targets = targets(T, V)
                var losses = [Float](repeating: 0, count: T), logsumexp = losses
                lora_cross_entropy_forward(&losses, &logsumexp, logits, targets, T, V)
                for t in 0..<T {
                    var loss: [Float] = [0], sum: [Float] = [0]
                    lora_cross_entropy_forward(
                        &loss, &sum, Array(logits[t * V..<(t + 1) * V]), [targets[t]], 1, V)
                    #expect(loss == [losses[t]] && sum == [logsumexp[t]])
                }
            }
        }

        @Test("the exponential is good to 1.5 units in the last place", arguments: Variant.all)
        func exponential(variant: Variant) {
            variant.use {
                // With logsumexp 0 and scale 1, every gradient but the target's is the exponential itself.
                let n = 100_001
                var x = (0..<n).map { Float(-86.5 + 175 * Double($0) / Double(n - 1)) }
                let arguments = x
                lora_cross_entropy_backward(&x, [0], [Int32(n - 1)], 1, 1, n)
                var worst = 0.0
                for i in 0..<n - 1 {
                    let expected = exp(Double(arguments[i]))
                    worst = max(worst, abs(Double(x[i]) - expected) / expected)
                }
                #expect(worst < 1.5 * 1.2e-7)
                var special: [Float] = [-.infinity, -1e30, -88, 0, 89, 1e30, .infinity, .nan, 0]
                lora_cross_entropy_backward(&special, [0], [8], 1, 1, 9)
                #expect(special[0] == 0 && special[1] == 0 && special[2] < 1e-37 && special[3] == 1)
                #expect(special[4] == .infinity && special[5] == .infinity && special[6] == .infinity)
                #expect(special[7].isNaN && special[8] == 0)
            }
        }
    }

    @Suite("AdamW")
    struct AdamW {
        @Test("ten steps agree with the reference", arguments: Variant.all, oddSizes)
        func reference(variant: Variant, n: Int) {
            variant.use {
                var numbers = Numbers(UInt64(n))
                var parameters = numbers.floats(n), m = [Float](repeating: 0, count: n), v = m
                // What the kernel gets: 1 - 0.999 in f32 is off by 1.3e-5.
                let beta1 = Double(Float(0.9)), beta2 = Double(Float(0.999))
                var expected = doubles(parameters), first = [Double](repeating: 0, count: n), second = first
                for step in 1...10 {
                    let gradients = numbers.floats(n, scale: 0.1)
                    lora_adamw_step(
                        &parameters, &m, &v, gradients, 0.5, 1e-2, 0.9, 0.999, 1e-8, 0.01,
                        Float(1 - pow(beta1, Double(step))), Float(1 - pow(beta2, Double(step))), n)
                    for i in 0..<n {
                        lora_reference_adamw_step(
                            &expected[i], &first[i], &second[i], Double(gradients[i]) * 0.5, 1e-2, beta1, beta2, 1e-8,
                            0.01, UInt64(step))
                    }
                }
                // Ten steps of about 1e-2 each, and ten roundings of values up to 1: absolute, as one may be near 0.
                for i in 0..<n { #expect(abs(Double(parameters[i]) - expected[i]) < 6e-7) }
                // Ten roundings of each average.
                #expect(error(m, first) < 1e-6)
                #expect(error(v, second) < 1e-6)
            }
        }
    }
}
