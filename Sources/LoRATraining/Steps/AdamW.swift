import CKernels
import LoRAModel

/// AdamW (arXiv 1711.05101) over one array of parameters, as `torch.optim.AdamW` computes it.
final class AdamW {
    private let count: Int
    private let weightDecay: Float
    private let first: UnsafeMutablePointer<Float>  // (count): running mean of gradients
    private let second: UnsafeMutablePointer<Float>  // (count): running mean of their squares
    private(set) var steps = 0

    private static let beta1: Float = 0.9
    private static let beta2: Float = 0.999
    private static let epsilon: Float = 1e-8

    init(count: Int, weightDecay: Float) {
        self.count = count
        self.weightDecay = weightDecay
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
            let at = range.lowerBound
            lora_adamw_step(
                parameters + at, self.first + at, self.second + at, gradients + at, gradientScale, learningRate,
                Self.beta1, Self.beta2, Self.epsilon, self.weightDecay, correction1, correction2, range.count)
        }
    }

    private func power(_ base: Double, _ exponent: Int) -> Double {
        (0..<exponent).reduce(1) { product, _ in product * base }
    }
}
