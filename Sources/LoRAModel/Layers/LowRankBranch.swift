import CKernels

/// The low-rank branch of a projection: y += s · B (A x), and its gradients (arXiv 2106.09685).
///
/// Functions work on a range of rows and touch nothing else, so that threads share the rows between them.
struct LowRankBranch {
    let pair: LowRankPair
    /// (r, in)
    let A: UnsafePointer<Float>
    /// (out, r)
    let B: UnsafePointer<Float>
    /// Dropout on the branch's input; nil in evaluation.
    var dropout: Dropout?

    struct Dropout {
        let probability: Float
        let seed: UInt64
        /// (rows, in) of scratch.
        let scratch: UnsafeMutablePointer<Float>
    }

    init(pair: LowRankPair, adapter: AdapterParameters, dropout: Dropout? = nil) {
        self.pair = pair
        A = adapter.matrixA(pair)
        B = adapter.matrixB(pair)
        self.dropout = dropout
    }

    /// y (T,out) ADDS s · h Bᵀ where h (T,r) = x Aᵀ is overwritten. x is (T,in), rows contiguous. All pointers are at the
    /// first of `rows`, whose numbers matter to dropout alone.
    func forward(
        _ y: UnsafeMutablePointer<Float>, yStride: Int, h: UnsafeMutablePointer<Float>, _ x: UnsafePointer<Float>,
        rows: Range<Int>
    ) {
        project(h, x, rows: rows)
        lora_lowrank_up(y, yStride, h, B, pair.scale, rows.count, pair.outputs, pair.rank)
    }

    /// h (T,r) = x Aᵀ alone.
    func project(_ h: UnsafeMutablePointer<Float>, _ x: UnsafePointer<Float>, rows: Range<Int>) {
        lora_lowrank_down(h, input(x, rows: rows), pair.inputs, A, rows.count, pair.inputs, pair.rank)
    }

    /// With dy (T,out): dB += s dyᵀ h, dA += dhᵀ x and dx (T,in) ADDS dh A where dh = s · dy B.
    /// dx nil: nobody needs it. `dh` (T,r) is scratch; `gradients` are those of the pair, A then B.
    func backward(
        _ dx: UnsafeMutablePointer<Float>?, gradients: UnsafeMutablePointer<Float>, dh: UnsafeMutablePointer<Float>,
        _ dy: UnsafePointer<Float>, dyStride: Int, h: UnsafePointer<Float>, _ x: UnsafePointer<Float>, rows: Range<Int>
    ) {
        let (T, r) = (rows.count, pair.rank)
        let (inputs, outputs) = (pair.inputs, pair.outputs)
        lora_lowrank_up_backward_input(dh, dy, dyStride, B, pair.scale, T, outputs, r)
        lora_lowrank_up_backward_weight(gradients + pair.countA, dy, dyStride, h, pair.scale, T, outputs, r)
        lora_lowrank_down_backward_weight(gradients, dh, input(x, rows: rows), inputs, T, inputs, r)
        guard let dx else { return }
        guard let dropout else { return lora_lowrank_down_backward_input(dx, inputs, dh, A, T, inputs, r) }
        let scratch = dropout.scratch
        scratch.update(repeating: 0, count: T * inputs)
        lora_lowrank_down_backward_input(scratch, inputs, dh, A, T, inputs, r)
        lora_dropout_backward(
            dx, scratch, dropout.probability, dropout.seed, UInt64(rows.lowerBound * inputs), T * inputs)
    }

    /// The rows of x, after dropout.
    func input(_ x: UnsafePointer<Float>, rows: Range<Int>) -> UnsafePointer<Float> {
        guard let dropout else { return x }
        let (at, count) = (UInt64(rows.lowerBound * pair.inputs), rows.count * pair.inputs)
        lora_dropout_forward(dropout.scratch, x, dropout.probability, dropout.seed, at, count)
        return UnsafePointer(dropout.scratch)
    }
}
