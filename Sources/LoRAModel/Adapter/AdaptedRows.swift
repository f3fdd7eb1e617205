import CKernels
import LoRAFormats

/// Rows of W + s · B A, made from the stored blocks of W a few at a time, so that no adapted matrix exists as a whole.
struct AdaptedRows {
    let pair: LowRankPair
    let adapter: AdapterParameters
    let W: FrozenMatrix
    private let scaled: UnsafeMutablePointer<Float>  // (group, r): s · B

    /// Rows made at a time.
    static let group = 16

    /// Floats of scratch that `init` wants.
    static func scratchCount(_ pair: LowRankPair) -> Int { group * pair.rank }

    init(_ pair: LowRankPair, _ adapter: AdapterParameters, _ W: FrozenMatrix, scratch: UnsafeMutablePointer<Float>) {
        self.pair = pair
        self.adapter = adapter
        self.W = W
        scaled = scratch
    }

    /// out (rows, in) overwritten with at most `group` rows.
    func write(_ out: UnsafeMutablePointer<Float>, rows: Range<Int>) {
        precondition(rows.count <= Self.group, "\(rows.count) rows at a time, at most \(Self.group)")
        for (index, row) in rows.enumerated() { W.expand(out + index * pair.inputs, row: row) }
        let B = adapter.matrixB(pair) + rows.lowerBound * pair.rank
        lora_scaled_f32(scaled, B, pair.scale, rows.count * pair.rank)
        lora_lowrank_down_backward_input(
            out, pair.inputs, scaled, adapter.matrixA(pair), rows.count, pair.inputs, pair.rank)
    }

    /// norms (rows) overwritten with the Euclidean norms of `rows`, by way of `out` (group, in); squares are summed in
    /// double precision.
    func norms(_ norms: UnsafeMutablePointer<Float>, rows: Range<Int>, out: UnsafeMutablePointer<Float>) {
        for lower in stride(from: rows.lowerBound, to: rows.upperBound, by: Self.group) {
            let part = lower..<min(lower + Self.group, rows.upperBound)
            write(out, rows: part)
            for (index, row) in part.enumerated() {
                let squares = lora_sum_of_squares(out + index * pair.inputs, pair.inputs)
                norms[row - rows.lowerBound] = Float(squares.squareRoot())
            }
        }
    }
}

extension BaseModel {
    /// The matrix (out, in) of a projection.
    func matrix(_ target: TargetModule, block index: Int) -> FrozenMatrix {
        let block = blocks[index]
        return switch target {
        case .queryProjection: block.queryKeyValue.parts[0]
        case .keyProjection: block.queryKeyValue.parts[1]
        case .valueProjection: block.queryKeyValue.parts[2]
        case .outputProjection: block.attentionOutput.parts[0]
        case .gateProjection: block.gateUp.parts[0]
        case .upProjection: block.gateUp.parts[1]
        case .downProjection: block.down.parts[0]
        }
    }
}
