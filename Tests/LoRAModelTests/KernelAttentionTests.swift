import CKernels
import Testing

/// Keys and values of one head with their gradients, cut into spans. The spans point into the buffers, which live as
/// long as the object: calls take them through `use`.
private final class Spans {
    let keys: Floats, values: Floats, dkeys: Floats, dvalues: Floats
    private let spans: [lora_key_span]

    /// `counts` sum to the number of keys; the first `frozen` spans take no gradient.
    init(_ keys: [Float], _ values: [Float], counts: [Int], stride: Int, before: Float = 0, frozen: Int = 0) {
        let zeros = [Float](repeating: before, count: keys.count)
        (self.keys, self.values) = (Floats(keys), Floats(values))
        (dkeys, dvalues) = (Floats(zeros), Floats(zeros))
        var spans: [lora_key_span] = []
        var offset = 0
        for (index, count) in counts.enumerated() {
            let trained = index >= frozen
            spans.append(
                lora_key_span(
                    keys: self.keys.base + offset, values: self.values.base + offset,
                    dkeys: trained ? dkeys.base + offset : nil, dvalues: trained ? dvalues.base + offset : nil,
                    count: count))
            offset += count * stride
        }
        self.spans = spans
    }

    func use<Result>(_ body: ([lora_key_span]) -> Result) -> Result {
        withExtendedLifetime(self) { body(spans) }
    }
}

/// One call's worth of attention inputs; rows contiguous.
private struct Problem {
    let first: Int, n: Int, D: Int
    let scale: Float = 0.3
    let queries: [Float], keys: [Float], values: [Float], dout: [Float]

    var count: Int { first + n }

    init(first: Int, n: Int, D: Int, seed: UInt64 = 1) {
        (self.first, self.n, self.D) = (first, n, D)
        var numbers = Numbers(seed)
        queries = numbers.floats(n * D, scale: 2)
        keys = numbers.floats((first + n) * D)
        values = numbers.floats((first + n) * D)
        dout = numbers.floats(n * D)
    }

    func forward(_ spans: Spans, rows: Range<Int>? = nil) -> (out: [Float], logsumexp: [Float]) {
        let rows = rows ?? 0..<n
        var out = [Float](repeating: .nan, count: rows.count * D)
        var logsumexp = [Float](repeating: .nan, count: rows.count)
        let part = Array(queries[rows.lowerBound * D..<rows.upperBound * D])
        spans.use {
            lora_attention_forward(
                &out, D, &logsumexp, part, D, $0, $0.count, D, first + rows.lowerBound, rows.count, D, scale)
        }
        return (out, logsumexp)
    }

    func backward(_ spans: Spans) -> [Float] {
        let (out, logsumexp) = forward(spans)
        var dqueries = [Float](repeating: .nan, count: n * D)
        spans.use {
            lora_attention_backward(
                &dqueries, dout, out, D, logsumexp, queries, D, $0, $0.count, D, first, n, D, scale)
        }
        return dqueries
    }

    func whole(before: Float = 0) -> Spans { Spans(keys, values, counts: [count], stride: D, before: before) }

    /// out, logsumexp, dqueries, dkeys, dvalues in double precision.
    func expected() -> (out: [Double], logsumexp: [Double], dq: [Double], dk: [Double], dv: [Double]) {
        var out = [Double](repeating: 0, count: n * D), logsumexp = [Double](repeating: 0, count: n), dq = out
        var dk = [Double](repeating: 0, count: count * D), dv = dk
        let (q, k, v) = (doubles(queries), doubles(keys), doubles(values))
        lora_reference_attention_forward(&out, &logsumexp, q, k, v, first, n, D, Double(scale))
        lora_reference_attention_backward(&dq, &dk, &dv, doubles(dout), q, k, v, first, n, D, Double(scale))
        return (out, logsumexp, dq, dk, dv)
    }
}

extension KernelTests {
    @Suite("Attention")
    struct Attention {
        static let shapes: [(first: Int, n: Int, D: Int)] =
            oddSizes.map { (0, $0, 16) } + [
                (63, 1, 64), (64, 1, 64), (65, 2, 64), (130, 75, 64), (7, 33, 8), (5, 40, 24), (3, 31, 72),
                (60, 70, 256), (0, 129, 40),
            ]

        /// Scores up to 10 carry an absolute error of about 2e-6, which the exponential passes on; sums over the keys.
        let limit = 1e-5

        @Test("forward and backward agree with the reference", arguments: Variant.all, shapes)
        func reference(variant: Variant, shape: (first: Int, n: Int, D: Int)) {
            variant.use {
                let problem = Problem(first: shape.first, n: shape.n, D: shape.D)
                let expected = problem.expected()
                let spans = problem.whole(before: 0.5)
                let (out, logsumexp) = problem.forward(spans)
                #expect(error(out, expected.out) < limit)
                #expect(error(logsumexp, expected.logsumexp) < limit)
                let dq = problem.backward(spans)
                if shape.first + shape.n > 1 { #expect(error(dq, expected.dq) < limit) }
                // The spans' gradients held 0.5 before: they are added to.
                #expect(error(spans.dkeys.array, expected.dk.map { $0 + 0.5 }) < limit)
                #expect(error(spans.dvalues.array, expected.dv.map { $0 + 0.5 }) < limit)
            }
        }

        @Test("backward is the derivative of forward", arguments: Variant.all)
        func derivative(variant: Variant) {
            variant.use {
                let problem = Problem(first: 3, n: 9, D: 8)
                let spans = problem.whole()
                let dq = problem.backward(spans)
                let loss = { (q: [Double], k: [Double], v: [Double]) in
                    var out = [Double](repeating: 0, count: problem.n * problem.D)
                    var logsumexp = [Double](repeating: 0, count: problem.n)
                    lora_reference_attention_forward(
                        &out, &logsumexp, q, k, v, problem.first, problem.n, problem.D, Double(problem.scale))
                    return dot(out, doubles(problem.dout))
                }
                let (q, k, v) = (doubles(problem.queries), doubles(problem.keys), doubles(problem.values))
                expectGradient(dq, of: { loss($0, k, v) }, at: problem.queries, seed: 1)
                expectGradient(spans.dkeys.array, of: { loss(q, $0, v) }, at: problem.keys, seed: 2)
                expectGradient(spans.dvalues.array, of: { loss(q, k, $0) }, at: problem.values, seed: 3)
            }
        }

        @Test("the cut into spans changes no bit", arguments: Variant.all)
        func cuts(variant: Variant) {
            variant.use {
                let problem = Problem(first: 70, n: 80, D: 24)
                let whole = problem.forward(problem.whole())
                let cuts = [
                    [64, 64, 22], [1, 149], [0, 16, 16, 0, 0, 100, 18, 0], [63, 1, 1, 85],
                    [Int](repeating: 1, count: 150), [Int](repeating: 16, count: 9) + [6],
                ]
                for counts in cuts {
                    let spans = Spans(problem.keys, problem.values, counts: counts, stride: 24)
                    let cut = problem.forward(spans)
                    #expect(cut.out == whole.out && cut.logsumexp == whole.logsumexp, "\(counts)")
                }
            }
        }

        @Test(
            "queries one by one, in parts or together give the same bits", arguments: Variant.all, [8, 24, 64, 256])
        func company(variant: Variant, D: Int) {
            variant.use {
                let problem = Problem(first: 50, n: 150, D: D)
                let spans = problem.whole()
                let whole = problem.forward(spans)
                for parts in [1, 2, 3, 7, 8, 64, 149] {
                    var out: [Float] = [], logsumexp: [Float] = []
                    for start in stride(from: 0, to: problem.n, by: parts) {
                        // Later keys are not there yet when a query is alone.
                        let end = min(start + parts, problem.n)
                        let present = Spans(problem.keys, problem.values, counts: [50 + end], stride: D)
                        let part = problem.forward(present, rows: start..<end)
                        out += part.out
                        logsumexp += part.logsumexp
                    }
                    #expect(out == whole.out && logsumexp == whole.logsumexp, "\(parts) at a time")
                }
            }
        }

        @Test("two heads that share keys, and a frozen prefix", arguments: Variant.all)
        func shared(variant: Variant) {
            variant.use {
                let D = 16, one = Problem(first: 70, n: 31, D: D), other = Problem(first: 70, n: 31, D: D, seed: 2)
                let spans = Spans(one.keys, one.values, counts: [66, 35], stride: D, frozen: 1)
                _ = one.backward(spans)
                _ = other.backward(spans)
                var dq = [Double](repeating: 0, count: 31 * D)
                var dk = [Double](repeating: 0, count: 101 * D), dv = dk
                for head in [one, other] {
                    lora_reference_attention_backward(
                        &dq, &dk, &dv, doubles(head.dout), doubles(head.queries), doubles(one.keys),
                        doubles(one.values), 70, 31, D, Double(one.scale))
                }
                for index in 0..<66 * D { (dk[index], dv[index]) = (0, 0) }
                #expect(error(spans.dkeys.array, dk) < limit)
                #expect(error(spans.dvalues.array, dv) < limit)
                #expect(spans.dkeys.array[..<(66 * D)].allSatisfy { $0 == 0 })
            }
        }

        @Test("strides larger than a row give the same bits, and gaps stay", arguments: Variant.all, [8, 24, 64])
        func strides(variant: Variant, D: Int) {
            variant.use {
                let problem = Problem(first: 5, n: 70, D: D), n = problem.n
                let whole = problem.whole()
                let (out, logsumexp) = problem.forward(whole)
                let dq = problem.backward(whole)
                let (keyStride, queryStride, outStride) = (D + 3, D + 5, D + 9)
                let spans = Spans(
                    strided(problem.keys, width: D, stride: keyStride, gap: .nan),
                    strided(problem.values, width: D, stride: keyStride, gap: .nan), counts: [30, 45],
                    stride: keyStride)
                let queries = strided(problem.queries, width: D, stride: queryStride, gap: .nan)
                let dout = strided(problem.dout, width: D, stride: outStride, gap: .nan)
                var wideOut = [Float](repeating: 7, count: n * outStride), sums = [Float](repeating: 0, count: n)
                var wideDq = [Float](repeating: 7, count: n * queryStride)
                spans.use {
                    lora_attention_forward(
                        &wideOut, outStride, &sums, queries, queryStride, $0, 2, keyStride, 5, n, D, problem.scale)
                    lora_attention_backward(
                        &wideDq, dout, wideOut, outStride, sums, queries, queryStride, $0, 2, keyStride, 5, n, D,
                        problem.scale)
                }
                let gatheredOut = gathered(wideOut, width: D, stride: outStride, gap: 7)
                let gatheredDq = gathered(wideDq, width: D, stride: queryStride, gap: 7)
                #expect(gatheredOut == (out, true) && sums == logsumexp && gatheredDq == (dq, true))
                let gatheredDk = gathered(spans.dkeys.array, width: D, stride: keyStride, gap: 0)
                let gatheredDv = gathered(spans.dvalues.array, width: D, stride: keyStride, gap: 0)
                #expect(gatheredDk == (whole.dkeys.array, true) && gatheredDv == (whole.dvalues.array, true))
            }
        }

        @Test(
            "heads that share keys in pages give one token the bits each gives alone", arguments: Variant.all,
            [(1, 24), (2, 8), (3, 64), (4, 72), (7, 64), (8, 256), (20, 64)])
        func decode(variant: Variant, shape: (heads: Int, D: Int)) {
            variant.use {
                for count in [1, 15, 64, 65, 200] {
                    let (heads, D, stride) = (shape.heads, shape.D, 2 * shape.D + 3)
                    let problem = Problem(first: count - 1, n: 1, D: D, seed: UInt64(count))
                    let whole = problem.whole()
                    let pages = Spans(
                        strided(problem.keys, width: D, stride: stride, gap: .nan),
                        strided(problem.values, width: D, stride: stride, gap: .nan),
                        counts: [Int](repeating: 16, count: count / 16) + [count % 16], stride: stride)
                    var numbers = Numbers(3)
                    let queries = numbers.floats(heads * D, scale: 2)
                    var out = [Float](repeating: .nan, count: heads * D)
                    var logsumexp = [Float](repeating: .nan, count: heads)
                    pages.use {
                        lora_attention_decode(
                            &out, &logsumexp, queries, $0, $0.count, stride, count - 1, heads, D, problem.scale)
                    }
                    for head in 0..<heads {
                        var one = [Float](repeating: .nan, count: D), sum: [Float] = [.nan]
                        let query = Array(queries[head * D..<(head + 1) * D])
                        whole.use {
                            lora_attention_forward(
                                &one, D, &sum, query, D, $0, $0.count, D, count - 1, 1, D, problem.scale)
                        }
                        #expect(one == Array(out[head * D..<(head + 1) * D]) && sum == [logsumexp[head]])
                    }
                }
            }
        }

        @Test("huge scores stay finite", arguments: Variant.all)
        func huge(variant: Variant) {
            variant.use {
                let problem = Problem(first: 0, n: 70, D: 8)
                let spans = Spans(problem.keys.map { $0 * 1e6 }, problem.values, counts: [70], stride: 8)
                #expect(lora_all_finite(problem.forward(spans).out, 70 * 8) == 1)
                #expect(lora_all_finite(problem.backward(spans), 70 * 8) == 1)
            }
        }
    }
}
