import CKernels

/// DoRA (arXiv 2402.09353): W' = m / |W + s · B A| (W + s · B A), the norms being those of rows (out), as PEFT computes it.
extension AdapterParameters {
    /// Magnitudes that leave the rows of W + s · B A as they are; with B zero the adapter is then the base.
    public func initializeMagnitudes(for base: BaseModel, pool: ThreadPool? = nil) {
        for pair in layout.pairs where pair.rowFactors == .magnitudes {
            rowNorms(pair, base, pool: pool).withUnsafeBufferPointer { norms in
                if let norms = norms.baseAddress {
                    (values + pair.offsetRowFactors).update(from: norms, count: pair.outputs)
                }
            }
        }
    }

    /// The same adapter for inference on `base`: magnitudes become gains of the base's rows, and B takes them in. One
    /// without magnitudes is itself.
    public func resolved(for base: BaseModel, pool: ThreadPool? = nil) -> AdapterParameters {
        guard layout.rowFactors == .magnitudes else { return self }
        let layout = AdapterLayout(configuration: base.configuration, rowFactors: .gains) { block, target in
            self.layout.pair(block: block, target).map { ($0.rank, $0.scale) }
        }
        let result = AdapterParameters(layout: layout)
        for pair in layout.pairs {
            result.values.advanced(by: pair.offset).update(from: values + pair.offset, count: pair.count)
            guard let own = self.layout.pair(block: pair.block, pair.target) else { continue }
            let (norms, B) = (rowNorms(own, base, pool: pool), result.values + pair.offsetB)
            let factors = result.values + pair.offsetRowFactors
            for row in 0..<pair.outputs {
                factors[row] = Self.gain(magnitude: factors[row], norm: norms[row])
                for column in 0..<pair.rank { B[row * pair.rank + column] *= factors[row] }
            }
        }
        return result
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

    /// The norms (out) of the rows of W + s · B A.
    private func rowNorms(_ pair: LowRankPair, _ base: BaseModel, pool: ThreadPool?) -> [Float] {
        let norms = AdaptedNorms(pair, self, base, pool: pool)
        let count = AdaptedNorms.scratchCount(rank: pair.rank, threads: pool?.count ?? 1)
        var scratch = [Float](repeating: 0, count: count)
        return [Float](unsafeUninitializedCapacity: pair.outputs) { buffer, count in
            count = pair.outputs
            guard let out = buffer.baseAddress else { return }
            scratch.withUnsafeMutableBufferPointer { scratch in
                if let scratch = scratch.baseAddress { norms.write(out, scratch: scratch, pool: pool) }
            }
        }
    }
}
