import CKernels
import Testing

extension KernelTests {
    @Suite("Gains of rows")
    struct DoRA {
        static let shapes: [(T: Int, N: Int)] = [(1, 1), (3, 7), (7, 8), (8, 9), (9, 31), (31, 33), (5, 200)]

        struct Inputs {
            let y: [Float], onto: [Float], other: [Float]
            let gains: [Float]

            init(T: Int, N: Int) {
                var numbers = Numbers(UInt64(T * 1000 + N))
                y = numbers.floats(T * N)
                onto = numbers.floats(T * N)
                other = numbers.floats(T * N)
                gains = numbers.floats(N, scale: 2)
            }

            /// By row and column.
            func each(_ value: (_ index: Int, _ gain: Double) -> Double) -> [Double] {
                y.indices.map { value($0, Double(gains[$0 % gains.count])) }
            }
        }

        /// A few roundings of values up to 6.
        let tolerance = 1e-6

        @Test("scale, onto zeros and onto what was there", arguments: Variant.all, shapes)
        func scale(variant: Variant, shape: (T: Int, N: Int)) {
            let (T, N) = shape
            let inputs = Inputs(T: T, N: N)
            for onto in [nil, inputs.onto] {
                var y = strided(inputs.y, width: N, stride: N + 3, gap: 7)
                variant.use {
                    if let onto {
                        lora_dora_scale(&y, N + 3, onto, inputs.gains, T, N)
                    } else {
                        lora_dora_scale(&y, N + 3, nil, inputs.gains, T, N)
                    }
                }
                let held = doubles(onto ?? [Float](repeating: 0, count: T * N))
                let expected = inputs.each { index, gain in
                    held[index] + gain * (Double(inputs.y[index]) - held[index])
                }
                let (rows, intact) = gathered(y, width: N, stride: N + 3, gap: 7)
                #expect(error(rows, expected) < tolerance)
                #expect(intact)
            }
        }

        @Test("add, and its gradients", arguments: Variant.all, shapes)
        func add(variant: Variant, shape: (T: Int, N: Int)) {
            let (T, N) = shape
            let inputs = Inputs(T: T, N: N)
            variant.use {
                var y = strided(inputs.y, width: N, stride: N + 2, gap: 7)
                lora_dora_add(&y, N + 2, inputs.onto, inputs.other, inputs.gains, T, N)
                let (rows, intact) = gathered(y, width: N, stride: N + 2, gap: 7)
                let sum = inputs.each { index, gain in
                    Double(inputs.y[index]) + (gain - 1) * Double(inputs.onto[index])
                        + gain * Double(inputs.other[index])
                }
                #expect(error(rows, sum) < tolerance)
                #expect(intact)

                let dy = strided(inputs.y, width: N, stride: N + 2, gap: .nan)
                var (branch, base) = (
                    [Float](repeating: .nan, count: T * N), [Float](repeating: .nan, count: T * N)
                )
                lora_dora_backward_input(&branch, &base, dy, N + 2, inputs.gains, T, N)
                #expect(error(branch, inputs.each { Double(inputs.y[$0]) * $1 }) < tolerance)
                #expect(error(base, inputs.each { Double(inputs.y[$0]) * ($1 - 1) }) < tolerance)

                var dm = [Float](repeating: 0.5, count: N)
                lora_dora_backward_magnitude(&dm, dy, N + 2, inputs.other, inputs.gains, T, N)
                let expected = (0..<N).map { n in
                    (0..<T).reduce(0.5) {
                        $0 + Double(inputs.gains[n]) * Double(inputs.y[$1 * N + n]) * Double(inputs.other[$1 * N + n])
                    }
                }
                #expect(error(dm, expected) < KernelTests.DoRA.sumTolerance(T))
            }
        }

        /// A sum of T products beside a start of 0.5, which may cancel.
        static func sumTolerance(_ T: Int) -> Double { 10 * LoRAModelTests.tolerance(terms: T) }
    }
}
