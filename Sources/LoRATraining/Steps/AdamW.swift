import CKernels
import LoRAModel

/// AdamW (arXiv 1711.05101) over one array of parameters, as `torch.optim.AdamW` computes it.
final class AdamW {
    /// Consecutive parameters whose learning rate is a multiple of the step's.
    struct Group: Equatable {
        let range: Range<Int>
        let rateFactor: Float
    }

    private let count: Int
    private let weightDecay: Float
    private let groups: [Group]
    /// (count): running mean of gradients.
    let first: UnsafeMutablePointer<Float>
    /// (count): running mean of their squares.
    let second: UnsafeMutablePointer<Float>
    /// Steps done; with the two means, all that a resumed run needs.
    var steps = 0

    private static let beta1: Float = 0.9
    private static let beta2: Float = 0.999
    private static let epsilon: Float = 1e-8

    /// - Parameter groups: of all parameters, in their order; nil for one group at the step's learning rate.
    init(count: Int, weightDecay: Float, groups: [Group]? = nil) {
        self.count = count
        self.weightDecay = weightDecay
        self.groups = groups ?? [Group(range: 0..<count, rateFactor: 1)]
        precondition(
            self.groups.reduce(0) { $1.range.lowerBound == $0 ? $1.range.upperBound : -1 } == count,
            "groups do not cover \(count) parameters one after the other")
        first = .allocate(capacity: max(count, 1))
        second = .allocate(capacity: max(count, 1))
        first.initialize(repeating: 0, count: max(count, 1))
        second.initialize(repeating: 0, count: max(count, 1))
    }

    deinit {
        first.deallocate()
        second.deallocate()
    }

    /// Updates `parameters` (count) with `gradients` (count) times `gradientScale`.
    func step(
        _ parameters: UnsafeMutablePointer<Float>, _ gradients: UnsafePointer<Float>, gradientScale: Float,
        learningRate: Float, pool: ThreadPool
    ) {
        steps += 1
        let correction1 = Float(1 - power(Double(Self.beta1), steps))
        let correction2 = Float(1 - power(Double(Self.beta2), steps))
        pool.forEachRange(of: count, multiple: 64) { range, _ in
            for group in self.groups {
                let part = group.range.clamped(to: range)
                guard !part.isEmpty else { continue }
                let at = part.lowerBound
                lora_adamw_step(
                    parameters + at, self.first + at, self.second + at, gradients + at, gradientScale,
                    learningRate * group.rateFactor, Self.beta1, Self.beta2, Self.epsilon, self.weightDecay,
                    correction1, correction2, part.count)
            }
        }
    }

    private func power(_ base: Double, _ exponent: Int) -> Double {
        (0..<exponent).reduce(1) { product, _ in product * base }
    }
}

extension AdamW.Group {
    /// LoRA+ (arXiv 2402.12354): every B learns at `ratio` times the rate of the rest.
    static func loraPlus(_ layout: AdapterLayout, ratio: Float) -> [AdamW.Group]? {
        guard ratio != 1 else { return nil }
        return layout.pairs.flatMap { pair in
            [
                AdamW.Group(range: pair.offset..<pair.offsetB, rateFactor: 1),
                AdamW.Group(range: pair.offsetB..<pair.offsetRowFactors, rateFactor: ratio),
                AdamW.Group(range: pair.offsetRowFactors..<pair.end, rateFactor: 1),
            ].filter { !$0.range.isEmpty }
        }
    }
}
