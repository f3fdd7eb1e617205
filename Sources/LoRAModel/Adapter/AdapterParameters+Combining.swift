extension AdapterParameters {
    /// One adapter that acts on `base` as the weighted sum of `parts`: their ranks stacked, weight and scale folded into B.
    ///
    /// What an adapter adds to a projection is W' - W, whatever it is made of: weights apply to that. With magnitudes it
    /// is (g - 1) W + g s · B A where the gains g are those that the adapter has alone, as PEFT sums several DoRA adapters.
    public static func combining(
        _ parts: [(adapter: AdapterParameters, weight: Float)], base: BaseModel, pool: ThreadPool? = nil
    ) -> AdapterParameters {
        let parts = parts.map { (adapter: $0.adapter.resolved(for: base, pool: pool), weight: $0.weight) }
        if parts.count == 1, parts[0].weight == 1 { return parts[0].adapter }
        let hasGains = parts.contains { $0.adapter.layout.rowFactors == .gains }
        let layout = AdapterLayout(configuration: base.configuration, rowFactors: hasGains ? .gains : .none) {
            block, target in
            let rank = parts.reduce(0) { $0 + ($1.adapter.layout.pair(block: block, target)?.rank ?? 0) }
            return rank == 0 ? nil : (rank, 1)
        }
        let sum = AdapterParameters(layout: layout)
        for pair in layout.pairs {
            var first = 0
            if hasGains { (sum.values + pair.offsetRowFactors).update(repeating: 1, count: pair.outputs) }
            for (adapter, weight) in parts {
                guard let part = adapter.layout.pair(block: pair.block, pair.target) else { continue }
                sum.add(adapter, part, weight: weight, to: pair, firstRank: first)
                first += part.rank
            }
        }
        return sum
    }

    private func add(
        _ adapter: AdapterParameters, _ part: LowRankPair, weight: Float, to pair: LowRankPair, firstRank first: Int
    ) {
        let (A, B) = (adapter.matrixA(part), adapter.matrixB(part))
        (values + pair.offset + first * pair.inputs).update(from: A, count: part.countA)
        for row in 0..<pair.outputs {
            for column in 0..<part.rank {
                values[pair.offsetB + row * pair.rank + first + column] =
                    weight * part.scale * B[row * part.rank + column]
            }
        }
        guard part.rowFactors == .gains else { return }
        let gains = adapter.rowFactors(part)
        for row in 0..<pair.outputs { values[pair.offsetRowFactors + row] += weight * (gains[row] - 1) }
    }
}
