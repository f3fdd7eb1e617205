extension AdapterParameters {
    /// One adapter that acts as the weighted sum of `parts`: their ranks stacked, weight and scale folded into B.
    public static func combining(
        _ parts: [(adapter: AdapterParameters, weight: Float)], configuration: ModelConfiguration
    ) -> AdapterParameters {
        if parts.count == 1, parts[0].weight == 1 { return parts[0].adapter }
        let layout = AdapterLayout(configuration: configuration) { block, target in
            let rank = parts.reduce(0) { $0 + ($1.adapter.layout.pair(block: block, target)?.rank ?? 0) }
            return rank == 0 ? nil : (rank, 1)
        }
        let sum = AdapterParameters(layout: layout)
        for pair in layout.pairs {
            var first = 0
            for (adapter, weight) in parts {
                guard let part = adapter.layout.pair(block: pair.block, pair.target) else { continue }
                let (A, B) = (adapter.matrixA(part), adapter.matrixB(part))
                (sum.values + pair.offset + first * pair.inputs).update(from: A, count: part.countA)
                for row in 0..<pair.outputs {
                    for column in 0..<part.rank {
                        sum.values[pair.offsetB + row * pair.rank + first + column] =
                            weight * part.scale * B[row * part.rank + column]
                    }
                }
                first += part.rank
            }
        }
        return sum
    }
}
