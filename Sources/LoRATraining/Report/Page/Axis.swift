internal import Foundation

/// Maps values to pixels, with ticks at round numbers.
struct Axis {
    enum Scale { case linear, logarithmic }

    let scale: Scale
    /// Values at both ends.
    let range: ClosedRange<Double>
    let ticks: [Double]

    /// - Parameters:
    ///   - values: what must fit; those that are not finite do not count.
    ///   - includesZero: a linear axis begins at 0.
    ///   - tickCount: about how many ticks; fewer where numbers are not that round.
    init(_ values: some Sequence<Double>, scale: Scale = .linear, includesZero: Bool = false, tickCount: Int = 5) {
        let finite = values.filter { $0.isFinite && (scale == .linear || $0 > 0) }
        let lowest = min(finite.min() ?? 0, includesZero ? 0 : .infinity)
        let highest = max(finite.max() ?? 1, lowest)
        self.scale = scale
        switch scale {
        case .logarithmic: (range, ticks) = Self.logarithmic(lowest, highest)
        case .linear: (range, ticks) = Self.linear(lowest, highest, tickCount: tickCount)
        }
    }

    /// Whole numbers from `first` to `last`, with no room at the ends.
    init(steps first: Int, _ last: Int, tickCount: Int) {
        scale = .linear
        range = Double(first)...Double(max(last, first + 1))
        let step = max(1, Self.roundStep(Double(last - first), count: tickCount))
        ticks = Self.multiples(of: step, in: range)
    }

    /// 0 at the lower end, 1 at the upper one.
    func position(_ value: Double) -> Double {
        switch scale {
        case .linear: (value - range.lowerBound) / (range.upperBound - range.lowerBound)
        case .logarithmic:
            log(max(value, range.lowerBound) / range.lowerBound) / log(range.upperBound / range.lowerBound)
        }
    }

    private static func linear(
        _ lowest: Double, _ highest: Double, tickCount: Int
    ) -> (ClosedRange<Double>, [Double]) {
        let spread = highest > lowest ? highest - lowest : max(abs(highest), 1)
        let step = roundStep(spread, count: tickCount)
        let lower = (lowest / step).rounded(.down) * step
        let upper = max((highest / step).rounded(.up) * step, lower + step)
        return (lower...upper, multiples(of: step, in: lower...upper))
    }

    /// Ticks at 1, 2 and 5 times powers of ten; at the powers alone where they are many.
    private static func logarithmic(_ lowest: Double, _ highest: Double) -> (ClosedRange<Double>, [Double]) {
        let lower = lowest > 0 ? lowest : 1e-3
        let upper = max(highest, lower * 2)
        let decades = Int(log10(lower).rounded(.down))...Int(log10(upper).rounded(.up))
        let factors = decades.count > 4 ? [1.0] : [1, 2, 5]
        let ticks = decades.flatMap { decade in factors.map { $0 * pow(10, Double(decade)) } }
        let start = ticks.last { $0 <= lower } ?? lower
        let end = ticks.first { $0 >= upper } ?? upper
        return (start...end, ticks.filter { (start...end).contains($0) })
    }

    /// 1, 2 or 5 times a power of ten that cuts `spread` into about `count` parts.
    private static func roundStep(_ spread: Double, count: Int) -> Double {
        let rough = max(spread, .leastNormalMagnitude * 1e9) / Double(max(count, 1))
        let power = pow(10, log10(rough).rounded(.down))
        return [1, 2, 5, 10].map { $0 * power }.first { $0 >= rough * 0.999 } ?? 10 * power
    }

    private static func multiples(of step: Double, in range: ClosedRange<Double>) -> [Double] {
        let first = Int((range.lowerBound / step - 1e-6).rounded(.up))
        let last = Int((range.upperBound / step + 1e-6).rounded(.down))
        guard first <= last, last - first < 100 else { return [] }
        return (first...last).map { Double($0) * step }
    }
}
