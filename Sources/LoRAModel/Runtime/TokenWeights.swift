import CKernels

/// What tokens weigh in a draw, relative to the most likely one, and which of them may be drawn.
///
/// Of the vocabulary only tokens that a filter may keep are gathered, and of those only the few about its limit are
/// sorted: what one draw costs depends little on the logits.
struct TokenWeights: Sendable {
    struct Candidate: Sendable, Equatable {
        var token: Int32
        var weight: Float
    }

    /// (V) 1 for the most likely token; then zeros up to a whole block.
    private var values: [Float] = []
    /// The tokens that may be drawn, where not all may.
    private(set) var candidates: [Candidate] = []
    private var isFiltered = false

    private var blockSums: [Double] = []
    /// Candidates about the limit of a filter.
    private var boundary: [Candidate] = []
    private var counts = [Int](repeating: 0, count: Bucket.count)
    private var sums = [Double](repeating: 0, count: Bucket.count)

    /// Weights that are looked at together.
    private static let block = 64

    // MARK: Weights

    /// Takes logits (V); all tokens may be drawn.
    mutating func set(_ logits: UnsafeBufferPointer<Float>, temperature: Float) {
        let padded = max(1, (logits.count + Self.block - 1) / Self.block) * Self.block
        if values.count != padded { values = [Float](repeating: 0, count: padded) }
        isFiltered = false
        guard let source = logits.baseAddress else { return }
        values.withUnsafeMutableBufferPointer { values in
            guard let weights = values.baseAddress else { return }
            var (maximum, sum): (Float, Float) = (0, 0)
            if temperature == 1 {
                lora_exponentials_f32(weights, &maximum, &sum, source, logits.count)
            } else {
                lora_scaled_f32(weights, source, 1 / temperature, logits.count)
                lora_exponentials_f32(weights, &maximum, &sum, weights, logits.count)
            }
            // What is not finite shows in the sum.
            if !(sum.isFinite && sum > 0) {
                Self.writeLimits(weights, logits, temperature: temperature)
                lora_exponentials_f32(weights, &maximum, &sum, weights, logits.count)
            }
        }
    }

    /// out (V) overwritten with logits relative to the largest, where some are not finite or too large to be divided:
    /// NaN counts as the least.
    private static func writeLimits(
        _ out: UnsafeMutablePointer<Float>, _ logits: UnsafeBufferPointer<Float>, temperature: Float
    ) {
        let largest = Sampler.largest(logits)
        for (token, logit) in logits.enumerated() {
            let relative = logit == largest ? 0 : (logit - largest) / temperature
            out[token] = relative.isNaN ? -.infinity : relative
        }
    }

    // MARK: Filters

    /// Leaves the tokens that top-k, then top-p, then min-p keep.
    mutating func filter(topK: Int, topP: Float, minP: Float) {
        let limitsCount = topK > 0 && topK < values.count
        guard limitsCount || topP < 1 || minP > 0 else { return }
        isFiltered = true
        let share = Double(max(topP, 0))
        let least = min(minP, 1)
        var total = 0.0
        if limitsCount {
            gather(from: floor(ofLargest: topK))
            keep(atMost: topK, reaching: .infinity)
            total = candidates.reduce(0) { $0 + Double($1.weight) }
        } else if share < 1 {
            total = self.total()
            // All that weigh less make up less than top-p leaves out, were they the whole vocabulary; a little less
            // for what was rounded.
            gather(from: Float(0.999 * (1 - share) * total / Double(values.count)))
        } else {
            gather(from: least)
        }
        if share < 1 { keep(atMost: .max, reaching: share * total) }
        if minP > 0 { candidates.removeAll { $0.weight < least } }
    }

    /// Candidates become the tokens of at least this weight, lowest first.
    private mutating func gather(from floor: Float) {
        let floor = max(floor, .leastNonzeroMagnitude)
        candidates.removeAll(keepingCapacity: true)
        values.withUnsafeBufferPointer { values in
            for start in stride(from: 0, to: values.count, by: Self.block) where Self.largest(values, start) >= floor {
                for token in start..<start + Self.block where values[token] >= floor {
                    candidates.append(Candidate(token: Int32(truncatingIfNeeded: token), weight: values[token]))
                }
            }
        }
    }

    /// The largest weight of a block; weights are not negative, so they compare as their bits do, in a loop that
    /// vectorises.
    private static func largest(_ values: UnsafeBufferPointer<Float>, _ start: Int) -> Float {
        var largest: Int32 = 0
        for index in start..<start + block { largest = max(largest, Int32(bitPattern: values[index].bitPattern)) }
        return Float(bitPattern: UInt32(bitPattern: largest))
    }

    /// A weight that the `count` largest have at least: as many blocks have one.
    private mutating func floor(ofLargest count: Int) -> Float {
        clearBuckets()
        values.withUnsafeBufferPointer { values in
            for start in stride(from: 0, to: values.count, by: Self.block) {
                counts[Bucket.index(of: Self.largest(values, start))] += 1
            }
        }
        var blocks = 0
        for (index, more) in counts.enumerated() {
            blocks += more
            if blocks >= count { return Bucket.floor(index) }
        }
        return 0
    }

    /// Leaves the fewest candidates, largest first and lowest of equals first, that are `count` or weigh `sum` together.
    private mutating func keep(atMost count: Int, reaching sum: Double) {
        weighBuckets()
        var (keptCount, keptSum, edge) = (0, 0.0, 0)
        while edge < Bucket.count, keptCount + counts[edge] < count, keptSum + sums[edge] < sum {
            keptCount += counts[edge]
            keptSum += sums[edge]
            edge += 1
        }
        dropCandidates(from: edge)
        boundary.sort { $0.weight == $1.weight ? $0.token < $1.token : $0.weight > $1.weight }
        for candidate in boundary where keptCount == 0 || (keptCount < count && keptSum < sum) {
            candidates.append(candidate)
            keptCount += 1
            keptSum += Double(candidate.weight)
        }
    }

    /// What the candidates in each bucket count and weigh.
    private mutating func weighBuckets() {
        clearBuckets()
        counts.withUnsafeMutableBufferPointer { counts in
            sums.withUnsafeMutableBufferPointer { sums in
                for candidate in candidates {
                    let index = Bucket.index(of: candidate.weight)
                    counts[index] += 1
                    sums[index] += Double(candidate.weight)
                }
            }
        }
    }

    /// Leaves the candidates above a bucket; those in it become the boundary.
    private mutating func dropCandidates(from edge: Int) {
        boundary.removeAll(keepingCapacity: true)
        let kept = candidates.withUnsafeMutableBufferPointer { candidates in
            var kept = 0
            for index in candidates.indices {
                let bucket = Bucket.index(of: candidates[index].weight)
                if bucket == edge { boundary.append(candidates[index]) }
                // Whether it stays cannot be predicted, so nothing branches on it.
                candidates[kept] = candidates[index]
                kept += bucket < edge ? 1 : 0
            }
            return kept
        }
        candidates.removeLast(candidates.count - kept)
    }

    private mutating func clearBuckets() {
        for index in 0..<Bucket.count { (counts[index], sums[index]) = (0, 0) }
    }

    // MARK: Drawing

    /// The token at a place in [0, 1) of all that may be drawn, laid side by side; 0 when nothing weighs anything.
    mutating func token(at place: Double) -> Int32 {
        if isFiltered {
            let total = candidates.reduce(0) { $0 + Double($1.weight) }
            let found = Self.find(place * total, in: candidates.lazy.map { Double($0.weight) })
            return candidates.isEmpty ? 0 : candidates[found.index].token
        }
        let block = Self.find(place * total(), in: blockSums)
        let start = block.index * Self.block
        let found = Self.find(block.rest, in: values[start..<start + Self.block].lazy.map(Double.init))
        return Int32(truncatingIfNeeded: start + found.index)
    }

    /// Which of the weights is at `distance` from the beginning, and how far that is from its own.
    private static func find(_ distance: Double, in weights: some Sequence<Double>) -> (index: Int, rest: Double) {
        var (found, rest) = ((index: 0, rest: 0.0), distance)
        for (index, weight) in weights.enumerated() where weight > 0 {
            found = (index, rest)
            rest -= weight
            if rest < 0 { break }
        }
        return found
    }

    /// What all tokens weigh; `blockSums` then has what each block does.
    private mutating func total() -> Double {
        typealias Lanes = SIMD16<Float>
        let parts = Self.block / Lanes.scalarCount
        blockSums.removeAll(keepingCapacity: true)
        values.withUnsafeBytes { bytes in
            for start in stride(from: 0, to: bytes.count, by: Self.block * MemoryLayout<Float>.stride) {
                var lanes = Lanes.zero
                for part in 0..<parts {
                    let offset = start + part * MemoryLayout<Lanes>.stride
                    lanes += bytes.loadUnaligned(fromByteOffset: offset, as: Lanes.self)
                }
                blockSums.append(Double(lanes.sum()))
            }
        }
        return blockSums.reduce(0, +)
    }

    /// Weights in steps of about two percent.
    private enum Bucket {
        /// 64 octaves; what is lighter is in the last one.
        static let count = 32 * 64
        private static let shift: UInt32 = 18
        private static let one = Float(1).bitPattern

        static func index(of weight: Float) -> Int {
            min(Int((one - min(weight.bitPattern, one)) >> shift), count - 1)
        }

        /// No weight in the bucket is less.
        static func floor(_ index: Int) -> Float {
            index == count - 1 ? 0 : Float(bitPattern: one - UInt32(index + 1) << shift)
        }
    }
}
