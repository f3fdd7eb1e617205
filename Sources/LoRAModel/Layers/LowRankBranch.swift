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
        /// (rows, in) of scratch, the rows of the range.
        let scratch: UnsafeMutablePointer<Float>
    }

    init(pair: LowRankPair, adapter: AdapterParameters, dropout: Dropout? = nil) {
        self.pair = pair
        A = adapter.matrixA(pair)
        B = adapter.matrixB(pair)
        self.dropout = dropout
    }

    /// y (T,out) ADDS s · h Bᵀ where h (T,r) = x Aᵀ is overwritten. x is (T,in), rows contiguous.
    func forward(
        _ y: UnsafeMutablePointer<Float>, yStride: Int, h: UnsafeMutablePointer<Float>, _ x: UnsafePointer<Float>,
        rows: Range<Int>
    ) {
        let (first, T, r) = (rows.lowerBound, rows.count, pair.rank)
        lora_lowrank_down(h + first * r, input(x, rows: rows), pair.inputs, A, T, pair.inputs, r)
        lora_lowrank_up(y + first * yStride, yStride, h + first * r, B, pair.scale, T, pair.outputs, r)
    }

    /// With dy (T,out): dB += s dyᵀ h, dA += dhᵀ x and dx (T,in) ADDS dh A where dh = s · dy B.
    /// dx nil: nobody needs it. `dh` (T,r) is scratch; `gradients` are those of the pair, A then B.
    func backward(
        _ dx: UnsafeMutablePointer<Float>?, gradients: UnsafeMutablePointer<Float>, dh: UnsafeMutablePointer<Float>,
        _ dy: UnsafePointer<Float>, dyStride: Int, h: UnsafePointer<Float>, _ x: UnsafePointer<Float>, rows: Range<Int>
    ) {
        let (first, T, r) = (rows.lowerBound, rows.count, pair.rank)
        let (inputs, outputs) = (pair.inputs, pair.outputs)
        let (dh, h, dy) = (dh + first * r, h + first * r, dy + first * dyStride)
        lora_lowrank_up_backward_input(dh, dy, dyStride, B, pair.scale, T, outputs, r)
        lora_lowrank_up_backward_weight(gradients + pair.countA, dy, dyStride, h, pair.scale, T, outputs, r)
        lora_lowrank_down_backward_weight(gradients, dh, input(x, rows: rows), inputs, T, inputs, r)
        guard let dx else { return }
        guard let dropout else {
            return lora_lowrank_down_backward_input(dx + first * inputs, inputs, dh, A, T, inputs, r)
        }
        let scratch = dropout.scratch + first * inputs
        scratch.update(repeating: 0, count: T * inputs)
        lora_lowrank_down_backward_input(scratch, inputs, dh, A, T, inputs, r)
        lora_dropout_backward(
            dx + first * inputs, scratch, dropout.probability, dropout.seed, UInt64(first * inputs), T * inputs)
    }

    /// The rows of x, after dropout.
    private func input(_ x: UnsafePointer<Float>, rows: Range<Int>) -> UnsafePointer<Float> {
        let at = rows.lowerBound * pair.inputs
        guard let dropout else { return x + at }
        let count = rows.count * pair.inputs
        lora_dropout_forward(
            dropout.scratch + at, x + at, dropout.probability, dropout.seed, UInt64(at), count)
        return UnsafePointer(dropout.scratch + at)
    }
}
