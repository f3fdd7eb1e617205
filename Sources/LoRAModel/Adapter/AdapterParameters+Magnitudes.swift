import CKernels

/// DoRA (arXiv 2402.09353): W' = m / |W + s · B A| (W + s · B A), the norms being those of rows (out), as PEFT computes it.
extension AdapterParameters {
    /// Magnitudes that leave the rows of W + s · B A as they are; with B zero the adapter is then the base.
    public func initializeMagnitudes(for base: BaseModel, pool: ThreadPool? = nil) {
        guard layout.rowFactors == .magnitudes else { return }
        ThreadPool.forEachTask(layout.pairs.count, by: pool) { index in
            let pair = layout.pairs[index]
            write(values + pair.offsetRowFactors, normsOf: pair, base)
        }
    }

    /// The same adapter for inference on `base`: magnitudes become gains of the base's rows, and B takes them in. One
    /// without magnitudes is itself.
    public func resolved(for base: BaseModel, pool: ThreadPool? = nil) -> AdapterParameters {
        guard layout.rowFactors == .magnitudes else { return self }
        let layout = AdapterLayout(configuration: base.configuration, rowFactors: .gains) { block, target in
            self.layout.pair(block: block, target).map { ($0.rank, $0.scale) }
        }
        let result = AdapterParameters(unset: layout)
        ThreadPool.forEachTask(layout.pairs.count, by: pool) { index in resolve(index, for: base, into: result) }
        return result
    }

    /// The pair at `index` of the layout, which is the same in `result`.
    private func resolve(_ index: Int, for base: BaseModel, into result: AdapterParameters) {
        let (pair, factors) = (layout.pairs[index], result.values + result.layout.pairs[index].offsetRowFactors)
        (result.values + pair.offset).update(from: values + pair.offset, count: pair.count)
        withUnsafeTemporaryAllocation(of: Float.self, capacity: pair.outputs) { norms in
            guard let norms = norms.baseAddress else { return }
            write(norms, normsOf: pair, base)
            let B = result.values + pair.offsetB
            for row in 0..<pair.outputs {
                factors[row] = Self.gain(magnitude: factors[row], norm: norms[row])
                for column in 0..<pair.rank { B[row * pair.rank + column] *= factors[row] }
            }
        }
    }

    /// What a row of W + s · B A is multiplied with. A row of zeros stays one.
    static func gain(magnitude: Float, norm: Float) -> Float { norm > 0 ? magnitude / norm : 1 }

    /// out (rows, in) ADDS `weight` times what the adapter adds to rows of the projection: W' - W.
    /// - Parameters:
    ///   - base: the rows of W (rows, in) in f32.
    ///   - rows: of W that `out` and `base` hold.
    /// - Precondition: the adapter has no magnitudes; `resolved` turns them into gains.
    public func addChange(
        of pair: LowRankPair, to out: UnsafeMutablePointer<Float>, base: UnsafePointer<Float>, rows: Range<Int>,
        weight: Float
    ) {
        precondition(pair.rowFactors != .magnitudes, "\(pair.moduleName): magnitudes must be resolved first")
        let (K, count) = (pair.inputs, rows.count * pair.rank)
        withUnsafeTemporaryAllocation(of: Float.self, capacity: count + K) { scratch in
            guard let scaled = scratch.baseAddress else { return }
            lora_scaled_f32(scaled, matrixB(pair) + rows.lowerBound * pair.rank, weight * pair.scale, count)
            lora_lowrank_down_backward_input(out, K, scaled, matrixA(pair), rows.count, K, pair.rank)
            guard pair.rowFactors == .gains else { return }
            let (gains, change) = (rowFactors(pair), scaled + count)
            for (index, row) in rows.enumerated() {
                lora_scaled_f32(change, base + index * K, weight * (gains[row] - 1), K)
                lora_add(out + index * K, change, K)
            }
        }
    }

    /// norms (out) overwritten with those of the rows of W + s · B A.
    private func write(_ norms: UnsafeMutablePointer<Float>, normsOf pair: LowRankPair, _ base: BaseModel) {
        let count = AdaptedNorms.scratchCount(rank: pair.rank, inputs: pair.inputs)
        withUnsafeTemporaryAllocation(of: Float.self, capacity: count) { scratch in
            guard let scratch = scratch.baseAddress else { return }
            AdaptedNorms(pair, self, base).write(norms, scratch: scratch)
        }
    }
}
