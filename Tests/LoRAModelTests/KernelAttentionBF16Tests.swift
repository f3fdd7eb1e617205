import CKernels
import Testing

private func bf16(_ values: [Float]) -> [UInt16] {
    var rounded = [UInt16](repeating: 0, count: values.count)
    lora_f32_to_bf16(&rounded, values, values.count)
    return rounded
}

private func floats(_ values: [UInt16]) -> [Float] { values.map { Float(bitPattern: UInt32($0) << 16) } }

/// bf16 numbers at a fixed address, for kernels that keep pointers.
private final class Halves {
    let base: UnsafeMutablePointer<UInt16>

    init(_ values: [UInt16]) {
        base = .allocate(capacity: max(values.count, 1))
        base.initialize(from: values, count: values.count)
    }

    deinit { base.deallocate() }
}

/// Keys and values of one head with their gradients, cut into spans.
private final class Spans {
    let dkeys: Floats, dvalues: Floats
    private let keys: Halves, values: Halves, spans: [lora_key_span_bf16]

    /// `counts` sum to the number of keys; the first `frozen` spans take no gradient.
    init(_ keys: [UInt16], _ values: [UInt16], counts: [Int], stride: Int, before: Float = 0, frozen: Int = 0) {
        (self.keys, self.values) = (Halves(keys), Halves(values))
        dkeys = Floats([Float](repeating: before, count: keys.count))
        dvalues = Floats([Float](repeating: before, count: keys.count))
        var spans: [lora_key_span_bf16] = []
        var offset = 0
        for (index, count) in counts.enumerated() {
            let trained = index >= frozen
            spans.append(
                lora_key_span_bf16(
                    keys: self.keys.base + offset, values: self.values.base + offset,
                    dkeys: trained ? dkeys.base + offset : nil, dvalues: trained ? dvalues.base + offset : nil,
                    count: count))
            offset += count * stride
        }
        self.spans = spans
    }

    func use<Result>(_ body: ([lora_key_span_bf16]) -> Result) -> Result {
        withExtendedLifetime(self) { body(spans) }
    }
}

/// Keys and values written position by position into pages that hold NaN before.
private final class Pages {
    private let pages: [Halves]

    init(_ keys: [UInt16], _ values: [UInt16], D: Int) {
        let (length, count) = (Int(LORA_PAGE_LENGTH), keys.count / D)
        // A page is readable 64 bytes beyond.
        pages = (0..<(count + length - 1) / length).map { _ in
            Halves([UInt16](repeating: 0x7fc0, count: 2 * length * D + 32))
        }
        for position in 0..<count {
            lora_page_write_bf16(
                pages[position / length].base, position % length, Array(keys[position * D..<(position + 1) * D]),
                Array(values[position * D..<(position + 1) * D]), D)
        }
    }

    func use<Result>(_ body: ([UnsafePointer<UInt16>]) -> Result) -> Result {
        withExtendedLifetime(self) { body(pages.map { UnsafePointer($0.base) }) }
    }
}

/// What a forward pass writes, and a backward pass beside the gradients in the spans.
private struct Results: Equatable {
    var out: [UInt16], logsumexp: [Float], dq: [Float] = []
}

/// One call's worth of attention inputs, rounded to bf16; rows contiguous.
private struct Problem {
    let first: Int, n: Int, D: Int
    let scale: Float = 0.3
    let queries: [UInt16], keys: [UInt16], values: [UInt16], dout: [UInt16]

    var count: Int { first + n }

    init(first: Int, n: Int, D: Int, seed: UInt64 = 1) {
        (self.first, self.n, self.D) = (first, n, D)
        var numbers = Numbers(seed)
        queries = bf16(numbers.floats(n * D, scale: 2))
        keys = bf16(numbers.floats((first + n) * D))
        values = bf16(numbers.floats((first + n) * D))
        dout = bf16(numbers.floats(n * D))
    }

    func forward(_ spans: Spans, rows: Range<Int>? = nil) -> Results {
        let rows = rows ?? 0..<n
        var out = [UInt16](repeating: 0x7fc0, count: rows.count * D)
        var logsumexp = [Float](repeating: .nan, count: rows.count)
        let part = Array(queries[rows.lowerBound * D..<rows.upperBound * D])
        spans.use {
            lora_attention_forward_bf16(
                &out, D, &logsumexp, part, D, $0, $0.count, D, first + rows.lowerBound, rows.count, D, scale)
        }
        return Results(out: out, logsumexp: logsumexp)
    }

    func backward(_ spans: Spans, rows: Range<Int>? = nil) -> Results {
        let rows = rows ?? 0..<n
        var results = forward(spans, rows: rows)
        var dq = [Float](repeating: .nan, count: rows.count * D)
        let part = Array(queries[rows.lowerBound * D..<rows.upperBound * D])
        let dpart = Array(dout[rows.lowerBound * D..<rows.upperBound * D])
        spans.use {
            lora_attention_backward_bf16(
                &dq, dpart, results.out, D, results.logsumexp, part, D, $0, $0.count, D, first + rows.lowerBound,
                rows.count, D, scale)
        }
        results.dq = dq
        return results
    }

    func whole(before: Float = 0) -> Spans { Spans(keys, values, counts: [count], stride: D, before: before) }

    /// out, logsumexp, dqueries, dkeys, dvalues in double precision.
    func expected() -> (out: [Double], logsumexp: [Double], dq: [Double], dk: [Double], dv: [Double]) {
        var out = [Double](repeating: 0, count: n * D), logsumexp = [Double](repeating: 0, count: n), dq = out
        var dk = [Double](repeating: 0, count: count * D), dv = dk
        let (q, k, v) = (doubles(floats(queries)), doubles(floats(keys)), doubles(floats(values)))
        lora_reference_attention_forward(&out, &logsumexp, q, k, v, first, n, D, Double(scale))
        lora_reference_attention_backward(
            &dq, &dk, &dv, doubles(floats(dout)), q, k, v, first, n, D, Double(scale))
        return (out, logsumexp, dq, dk, dv)
    }
}

/// The length of the difference relative to the expected length; not less than any limit when a value is not finite.
private func distance(_ actual: [Float], _ expected: [Double]) -> Double {
    precondition(actual.count == expected.count, "\(actual.count) values, \(expected.count) expected")
    let difference = zip(actual, expected).reduce(0) { $0 + (Double($1.0) - $1.1) * (Double($1.0) - $1.1) }
    guard difference.isFinite else { return .infinity }
    let length = dot(expected, expected)
    return length == 0 ? difference.squareRoot() : (difference / length).squareRoot()
}

extension KernelTests {
    @Suite("Attention in bf16")
    struct AttentionBF16 {
        static let shapes: [(first: Int, n: Int, D: Int)] =
            oddSizes.map { (0, $0, 16) } + [
                (63, 1, 64), (64, 1, 64), (65, 2, 64), (130, 75, 64), (7, 33, 8), (5, 40, 24), (3, 31, 72),
                (60, 130, 256), (0, 129, 40), (9, 200, 128), (20, 560, 64),
            ]

        /// Rounding to bf16 (8 significant bits) errs by up to 2^-9 of a number, 2^-9 / √3 = 1.1e-3 in the mean. A result
        /// sees it in P or dS and in out, which enters the gradients a second time as the sum of out * dout: three
        /// times, and half as much again for the worst of few numbers.
        let limit = 5e-3
        /// The scores see no rounding after that of the operands, which the reference has too.
        let limitOfScores = 1e-5

        @Test("forward and backward agree with the reference", arguments: Variant.all, shapes)
        func reference(variant: Variant, shape: (first: Int, n: Int, D: Int)) {
            variant.use {
                let problem = Problem(first: shape.first, n: shape.n, D: shape.D)
                let expected = problem.expected()
                let spans = problem.whole(before: 0.5)
                let results = problem.backward(spans)
                #expect(distance(floats(results.out), expected.out) < limit)
                #expect(error(results.logsumexp, expected.logsumexp) < limitOfScores)
                // One query with one key: the gradients of its score cancel.
                guard problem.count > 1 else { return }
                #expect(distance(results.dq, expected.dq) < limit)
                // The spans' gradients held 0.5 before: they are added to.
                #expect(distance(spans.dkeys.array.map { $0 - 0.5 }, expected.dk) < limit)
                #expect(distance(spans.dvalues.array.map { $0 - 0.5 }, expected.dv) < limit)
            }
        }

        @Test("the results are those of the f32 kernel, rounded", arguments: Variant.all, [64, 128])
        func single(variant: Variant, D: Int) {
            variant.use {
                let problem = Problem(first: 11, n: 190, D: D), n = problem.n
                let spans = problem.whole()
                let results = problem.backward(spans)
                let (keys, values) = (Floats(floats(problem.keys)), Floats(floats(problem.values)))
                let zeros = [Float](repeating: 0, count: problem.count * D)
                let (dk, dv) = (Floats(zeros), Floats(zeros))
                var out = [Float](repeating: 0, count: n * D), sums = [Float](repeating: 0, count: n), dq = out
                let (queries, dout) = (floats(problem.queries), floats(problem.dout))
                withExtendedLifetime((keys, values, dk, dv)) {
                    let span = [
                        lora_key_span(
                            keys: keys.base, values: values.base, dkeys: dk.base, dvalues: dv.base,
                            count: problem.count)
                    ]
                    lora_attention_forward(&out, D, &sums, queries, D, span, 1, D, 11, n, D, problem.scale)
                    lora_attention_backward(
                        &dq, dout, out, D, sums, queries, D, span, 1, D, 11, n, D, problem.scale)
                }
                #expect(distance(floats(results.out), doubles(out)) < limit)
                #expect(error(results.logsumexp, doubles(sums)) < limitOfScores)
                #expect(distance(results.dq, doubles(dq)) < limit)
                #expect(distance(spans.dkeys.array, doubles(dk.array)) < limit)
                #expect(distance(spans.dvalues.array, doubles(dv.array)) < limit)
            }
        }

        @Test("the cut into spans changes no bit", arguments: Variant.all)
        func cuts(variant: Variant) {
            variant.use {
                let problem = Problem(first: 70, n: 80, D: 24)
                let uncut = problem.whole()
                let whole = problem.backward(uncut)
                let cuts = [
                    [64, 64, 22], [1, 149], [0, 16, 16, 0, 0, 100, 18, 0], [63, 1, 1, 85],
                    [Int](repeating: 1, count: 150), [Int](repeating: 16, count: 9) + [6],
                ]
                for counts in cuts {
                    let spans = Spans(problem.keys, problem.values, counts: counts, stride: 24)
                    #expect(problem.backward(spans) == whole, "\(counts)")
                    #expect(spans.dkeys.array == uncut.dkeys.array, "\(counts)")
                    #expect(spans.dvalues.array == uncut.dvalues.array, "\(counts)")
                }
            }
        }

        @Test("queries one by one, in parts or together give the same bits", arguments: Variant.all, [64, 256])
        func company(variant: Variant, D: Int) {
            variant.use {
                let problem = Problem(first: 50, n: 350 - D, D: D)
                let whole = problem.backward(problem.whole())
                for parts in [1, 2, 3, 7, 8, 64, 93] {
                    var joined = Results(out: [], logsumexp: [])
                    for start in stride(from: 0, to: problem.n, by: parts) {
                        // Later keys are not there yet when a query is alone.
                        let end = min(start + parts, problem.n)
                        let present = Spans(problem.keys, problem.values, counts: [50 + end], stride: D)
                        let part = problem.backward(present, rows: start..<end)
                        joined.out += part.out
                        joined.logsumexp += part.logsumexp
                        joined.dq += part.dq
                    }
                    #expect(joined == whole, "\(parts) at a time")
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
                        &dq, &dk, &dv, doubles(floats(head.dout)), doubles(floats(head.queries)),
                        doubles(floats(one.keys)), doubles(floats(one.values)), 70, 31, D, Double(one.scale))
                }
                for index in 0..<66 * D { (dk[index], dv[index]) = (0, 0) }
                #expect(distance(spans.dkeys.array, dk) < limit)
                #expect(distance(spans.dvalues.array, dv) < limit)
                #expect(spans.dkeys.array[..<(66 * D)].allSatisfy { $0 == 0 })
                #expect(spans.dvalues.array[..<(66 * D)].allSatisfy { $0 == 0 })
            }
        }

        @Test("strides larger than a row give the same bits, and gaps stay", arguments: Variant.all, [8, 24, 64])
        func strides(variant: Variant, D: Int) {
            variant.use {
                let problem = Problem(first: 5, n: 71, D: D), n = problem.n
                let whole = problem.whole()
                let results = problem.backward(whole)
                let (keyStride, queryStride, outStride) = (D + 3, D + 5, D + 9)
                let spread = { (values: [UInt16], stride: Int) in
                    bf16(strided(floats(values), width: D, stride: stride, gap: .nan))
                }
                let spans = Spans(
                    spread(problem.keys, keyStride), spread(problem.values, keyStride), counts: [30, 46],
                    stride: keyStride)
                let (queries, dout) = (spread(problem.queries, queryStride), spread(problem.dout, outStride))
                var out = bf16([Float](repeating: 7, count: n * outStride)), sums = [Float](repeating: 0, count: n)
                var dq = [Float](repeating: 7, count: n * queryStride)
                spans.use {
                    lora_attention_forward_bf16(
                        &out, outStride, &sums, queries, queryStride, $0, 2, keyStride, 5, n, D, problem.scale)
                    lora_attention_backward_bf16(
                        &dq, dout, out, outStride, sums, queries, queryStride, $0, 2, keyStride, 5, n, D,
                        problem.scale)
                }
                let gatheredOut = gathered(floats(out), width: D, stride: outStride, gap: 7)
                #expect(gatheredOut == (floats(results.out), true) && sums == results.logsumexp)
                #expect(gathered(dq, width: D, stride: queryStride, gap: 7) == (results.dq, true))
                let gatheredDk = gathered(spans.dkeys.array, width: D, stride: keyStride, gap: 0)
                let gatheredDv = gathered(spans.dvalues.array, width: D, stride: keyStride, gap: 0)
                #expect(gatheredDk == (whole.dkeys.array, true) && gatheredDv == (whole.dvalues.array, true))
            }
        }

        @Test(
            "pages give the same bits, to a sequence and to heads of one token", arguments: Variant.all,
            [8, 24, 64, 256])
        func pages(variant: Variant, D: Int) {
            variant.use {
                for (first, n) in [(0, 1), (0, 16), (14, 1), (15, 3), (63, 2), (64, 1), (30, 100), (200, 9)] {
                    let problem = Problem(first: first, n: n, D: D, seed: UInt64(first + n))
                    let expected = problem.forward(problem.whole()).out
                    let pages = Pages(problem.keys, problem.values, D: D)
                    let (queryStride, outStride) = (D + 2, D + 9)
                    let queries = bf16(strided(floats(problem.queries), width: D, stride: queryStride, gap: .nan))
                    var out = bf16([Float](repeating: 7, count: n * outStride))
                    pages.use {
                        lora_attention_pages_bf16(
                            &out, outStride, queries, queryStride, $0, first, 1, n, D, problem.scale)
                    }
                    #expect(gathered(floats(out), width: D, stride: outStride, gap: 7) == (floats(expected), true))
                    // All queries at the last position.
                    var heads = [UInt16](repeating: 0x7fc0, count: n * D)
                    pages.use {
                        lora_attention_pages_bf16(
                            &heads, D, problem.queries, D, $0, first + n - 1, 0, n, D, problem.scale)
                    }
                    let (spans, last) = (problem.whole(), first + n - 1)
                    for head in 0..<n {
                        var one = [UInt16](repeating: 0x7fc0, count: D), sum: [Float] = [.nan]
                        let query = Array(problem.queries[head * D..<(head + 1) * D])
                        spans.use {
                            lora_attention_forward_bf16(&one, D, &sum, query, D, $0, 1, D, last, 1, D, problem.scale)
                        }
                        #expect(one == Array(heads[head * D..<(head + 1) * D]), "head \(head) of \(n) at \(last)")
                    }
                }
            }
        }

        @Test("the first query gives back its only value", arguments: Variant.all, [8, 64, 256])
        func only(variant: Variant, D: Int) {
            variant.use {
                let problem = Problem(first: 0, n: 3, D: D)
                let spans = problem.whole()
                #expect(problem.forward(spans).out[..<D] == problem.values[..<D])
            }
        }

        @Test("huge scores stay finite", arguments: Variant.all)
        func huge(variant: Variant) {
            variant.use {
                let problem = Problem(first: 0, n: 70, D: 8)
                let keys = bf16(floats(problem.keys).map { $0 * 1e6 })
                let spans = Spans(keys, problem.values, counts: [70], stride: 8)
                let results = problem.backward(spans)
                #expect(lora_all_finite(floats(results.out), 70 * 8) == 1)
                #expect(lora_all_finite(results.dq, 70 * 8) == 1)
                #expect(lora_all_finite(spans.dkeys.array, 70 * 8) == 1)
            }
        }

        @Test("a NaN in a key shows in every query that sees it, and in no earlier one", arguments: Variant.all)
        func notANumber(variant: Variant) {
            variant.use {
                let problem = Problem(first: 0, n: 150, D: 24), clean = problem.forward(problem.whole()).out
                var keys = problem.keys
                keys[100 * 24 + 5] = 0x7fc0
                let out = problem.forward(Spans(keys, problem.values, counts: [150], stride: 24)).out
                #expect(out[..<(100 * 24)] == clean[..<(100 * 24)])
                #expect(floats(Array(out[(100 * 24)...])).allSatisfy { $0.isNaN })
            }
        }
    }
}
