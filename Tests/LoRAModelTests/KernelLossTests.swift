import CKernels
import Foundation
import Testing

extension KernelTests {
    @Suite("Cross-entropy")
    struct CrossEntropy {
        func targets(_ T: Int, _ V: Int) -> [Int32] { (0..<T).map { Int32(($0 * 37 + 5) % V) } }

        /// The exponentials of a row relative to its maximum, that maximum, and their sum.
        func exponentials(_ x: [Float]) -> (values: [Float], maximum: Float, sum: Float) {
            var (values, maximum, sum) = ([Float](repeating: .nan, count: x.count + 1), Float.nan, Float.nan)
            lora_exponentials_f32(&values, &maximum, &sum, x, x.count)
            #expect(values[x.count].isNaN, "written beyond the end")
            return (Array(values[..<x.count]), maximum, sum)
        }

        func bf16(_ bits: UInt16) -> Float { Float(bitPattern: UInt32(bits) << 16) }

        @Test(
            "Loss and gradient that come of the exponentials agree with the reference", arguments: Variant.all,
            oddSizes + [5000])
        func reference(variant: Variant, V: Int) {
            variant.use {
                let T = 3
                var numbers = Numbers(UInt64(V))
                let logits = numbers.floats(T * V, scale: 12), targets = targets(T, V)
                var losses = [Double](repeating: 0, count: T), logsumexps = losses
                lora_reference_cross_entropy_forward(&losses, &logsumexps, doubles(logits), targets, T, V)
                var gradient = [Double](repeating: 0, count: T * V)
                lora_reference_cross_entropy_backward(&gradient, doubles(logits), targets, 0.25, T, V)
                for t in 0..<T {
                    let row = Array(logits[t * V..<(t + 1) * V])
                    let (values, maximum, sum) = exponentials(row)
                    #expect(maximum == row.max())
                    // Rounding of values up to 24, absolute: with one token the loss itself is 0.
                    let logsumexp = maximum + log(sum)
                    #expect(abs(Double(logsumexp) - logsumexps[t]) < 4e-6)
                    #expect(abs(Double(logsumexp - row[Int(targets[t])]) - losses[t]) < 4e-6)
                    var scaled = [Float](repeating: .nan, count: V)
                    lora_scaled_f32(&scaled, values, 0.25 / sum, V)
                    scaled[Int(targets[t])] -= 0.25
                    for (a, b) in zip(scaled, gradient[t * V..<(t + 1) * V]) { #expect(abs(Double(a) - b) < 1e-6) }
                }
            }
        }

        @Test("In bf16 the exponentials are those of f32, rounded", arguments: Variant.all, oddSizes + [5000])
        func rounded(variant: Variant, V: Int) {
            variant.use {
                var numbers = Numbers(UInt64(V + 1))
                let x = numbers.floats(V, scale: 9)
                let expected = exponentials(x)
                var (values, maximum, sum) = ([UInt16](repeating: 7, count: V + 1), Float.nan, Float.nan)
                lora_exponentials_bf16(&values, &maximum, &sum, x, V)
                #expect(maximum == expected.maximum && sum == expected.sum && values[V] == 7)
                var halves = [UInt16](repeating: 0, count: V)
                lora_f32_to_bf16(&halves, expected.values, V)
                #expect(Array(values[..<V]) == halves)
                var scaled = [UInt16](repeating: 7, count: V + 1)
                lora_scaled_bf16(&scaled, values, 0.3, V)
                let products = values[..<V].map { bf16($0) * 0.3 }
                lora_f32_to_bf16(&halves, products, V)
                #expect(Array(scaled[..<V]) == halves && scaled[V] == 7)
                var (again, total) = (Float.nan, Float.nan)
                lora_exponentials_bf16(nil, &again, &total, x, V)
                #expect(again == maximum && total == sum)
            }
        }

        @Test("Huge logits overflow nowhere; excluded tokens count for nothing", arguments: Variant.all)
        func extremes(variant: Variant) {
            variant.use {
                var logits = [Float](repeating: -3e38, count: 33)
                logits[7] = 3e38
                logits[8] = -.infinity
                let (values, maximum, sum) = exponentials(logits)
                #expect(maximum == 3e38 && sum == 1 && values.enumerated().allSatisfy { $1 == ($0 == 7 ? 1 : 0) })
                let none = exponentials([Float](repeating: -.infinity, count: 70))
                #expect(none.sum == 0 && none.values.allSatisfy { $0 == 0 } && none.maximum.isFinite)
                for (place, value) in [(3, Float.nan), (69, .nan), (0, .infinity), (69, .infinity)] {
                    var diverged = [Float](repeating: 1, count: 70)
                    diverged[place] = value
                    #expect(exponentials(diverged).sum.isNaN, "\(value) at \(place)")
                }
            }
        }

        @Test("The exponential is good to 1.5 units in the last place", arguments: Variant.all)
        func exponential(variant: Variant) {
            variant.use {
                // Relative to 0, the largest.
                let n = 100_001
                let x = (0..<n).map { Float(-86.5 * Double(n - 1 - $0) / Double(n - 1)) }
                let values = exponentials(x).values
                var worst = 0.0
                for i in 0..<n {
                    let expected = exp(Double(x[i]))
                    worst = max(worst, abs(Double(values[i]) - expected) / expected)
                }
                #expect(worst < 1.5 * 1.2e-7)
                let special = exponentials([-.infinity, -1e30, -88, 0]).values
                #expect(special[0] == 0 && special[1] == 0 && special[2] < 1e-37 && special[3] == 1)
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
