import CKernels

/// An adapter as inference reads it: immutable, B of every pair in blocks of columns, and the matrices in bf16 where all
/// of them are exact in it, as those of a bf16 file are.
// Sendable by proof: nothing is written after `init`.
public final class PackedAdapter: @unchecked Sendable {
    public let layout: AdapterLayout
    /// What it takes in memory.
    public let byteCount: Int

    /// Whether elements are bf16 rather than f32.
    let isHalf: Bool
    /// A of each pair, then its B, in the order of the layout.
    var elements: UnsafeMutableRawPointer { memory.bytes }
    private let memory: LargeBuffer
    /// Gains of the pairs' rows, end to end, where there are any.
    private let gains: UnsafeMutablePointer<Float>?
    /// Where each pair's elements and gains begin, by block and target; nil where there is no pair.
    private let places: [Place?]

    private struct Place {
        let pair: LowRankPair
        let element: Int
        let gain: Int
    }

    /// One pair's part of the sum y += s · B (A x).
    struct Branch {
        let pair: LowRankPair
        fileprivate let isHalf: Bool
        /// (r, in)
        fileprivate let A: UnsafeRawPointer
        /// (out / block, r, block)
        fileprivate let B: UnsafeRawPointer
        /// (out); nil where y is the base's product as it is.
        let gains: UnsafePointer<Float>?
    }

    /// - Parameter parameters: of a kind that inference can use: magnitudes are resolved.
    public init(_ parameters: AdapterParameters) {
        layout = parameters.layout
        precondition(layout.rowFactors != .magnitudes, "an adapter's magnitudes are not resolved")
        isHalf = layout.pairs.allSatisfy {
            lora_is_bf16(parameters.matrixA($0), $0.countA) != 0 && lora_is_bf16(parameters.matrixB($0), $0.countB) != 0
        }
        let (count, gainCount) = Self.counts(layout)
        let elementBytes = isHalf ? MemoryLayout<UInt16>.stride : MemoryLayout<Float>.stride
        byteCount = count * elementBytes + gainCount * MemoryLayout<Float>.stride
        let memory = LargeBuffer(byteCount: count * elementBytes)
        gains = gainCount > 0 ? .allocate(capacity: gainCount) : nil
        let blocks = (layout.pairs.last?.block ?? -1) + 1
        var places = [Place?](repeating: nil, count: blocks * TargetModule.allCases.count)
        var (element, gain) = (0, 0)
        for pair in layout.pairs {
            places[pair.block * TargetModule.allCases.count + pair.target.slot] = Place(
                pair: pair, element: element, gain: gain)
            Self.write(pair, of: parameters, to: memory.bytes + element * elementBytes, isHalf: isHalf)
            if let gains, pair.rowFactors == .gains {
                (gains + gain).update(from: parameters.rowFactors(pair), count: pair.outputs)
            }
            element += pair.packedCount
            gain += pair.countRowFactors
        }
        self.places = places
        self.memory = memory
    }

    deinit { gains?.deallocate() }

    /// Bytes that an adapter of `layout` takes at least: in bf16.
    public static func leastByteCount(_ layout: AdapterLayout) -> Int {
        let (count, gainCount) = counts(layout)
        return count * MemoryLayout<UInt16>.stride + gainCount * MemoryLayout<Float>.stride
    }

    private static func counts(_ layout: AdapterLayout) -> (elements: Int, gains: Int) {
        layout.pairs.reduce((0, 0)) { ($0.0 + $1.packedCount, $0.1 + $1.countRowFactors) }
    }

    private static func write(
        _ pair: LowRankPair, of parameters: AdapterParameters, to out: UnsafeMutableRawPointer, isHalf: Bool
    ) {
        let (A, B) = (parameters.matrixA(pair), parameters.matrixB(pair))
        if isHalf {
            let halves = out.assumingMemoryBound(to: UInt16.self)
            lora_f32_to_bf16(halves, A, pair.countA)
            withUnsafeTemporaryAllocation(of: Float.self, capacity: pair.packedCount - pair.countA) { blocks in
                guard let blocks = blocks.baseAddress else { return }
                lora_lowrank_to_blocks(blocks, B, pair.outputs, pair.rank)
                lora_f32_to_bf16(halves + pair.countA, blocks, pair.packedCount - pair.countA)
            }
        } else {
            let floats = out.assumingMemoryBound(to: Float.self)
            floats.update(from: A, count: pair.countA)
            lora_lowrank_to_blocks(floats + pair.countA, B, pair.outputs, pair.rank)
        }
    }

    /// The branch of a projection, if it has one.
    func branch(block: Int, _ target: TargetModule) -> Branch? {
        let slot = block * TargetModule.allCases.count + target.slot
        guard places.indices.contains(slot), let place = places[slot] else { return nil }
        let elementBytes = isHalf ? MemoryLayout<UInt16>.stride : MemoryLayout<Float>.stride
        let A = UnsafeRawPointer(elements + place.element * elementBytes)
        return Branch(
            pair: place.pair, isHalf: isHalf, A: A, B: A + place.pair.countA * elementBytes,
            gains: gains.map { UnsafePointer($0) + place.gain })
    }
}

extension PackedAdapter.Branch {
    /// y (T,out), rows `yStride` apart, ADDS s · h Bᵀ where h (T,r) = x Aᵀ is overwritten; x is (T,in).
    func forward(
        _ y: UnsafeMutablePointer<Float>, yStride: Int, h: UnsafeMutablePointer<Float>, _ x: UnsafePointer<Float>,
        rows T: Int
    ) {
        let (N, C, r) = (pair.outputs, pair.inputs, pair.rank)
        if isHalf {
            lora_lowrank_down_bf16(h, x, C, A.assumingMemoryBound(to: UInt16.self), T, C, r)
            lora_lowrank_up_blocks_bf16(
                y, yStride, h, B.assumingMemoryBound(to: UInt16.self), pair.scale, T, N, r)
        } else {
            lora_lowrank_down(h, x, C, A.assumingMemoryBound(to: Float.self), T, C, r)
            lora_lowrank_up_blocks_f32(y, yStride, h, B.assumingMemoryBound(to: Float.self), pair.scale, T, N, r)
        }
    }
}

extension LowRankPair {
    /// Elements of A, and of B in blocks.
    fileprivate var packedCount: Int { countA + lora_lowrank_blocks_count(outputs, rank) }
}
