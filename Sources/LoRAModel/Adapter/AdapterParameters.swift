import Foundation

/// The A and B matrices of one adapter in f32, and its row factors where it has them, in the base's own row order (see
/// `AdapterParameters+File`).
///
/// The trainer writes them; everyone else shares them as an immutable snapshot.
// Sendable by proof: only a `TrainingPass`'s owner writes through `values`, on one thread, before the object is shared.
public final class AdapterParameters: @unchecked Sendable {
    public let layout: AdapterLayout
    /// (layout.parameterCount)
    public let values: UnsafeMutablePointer<Float>

    /// All zero.
    public convenience init(layout: AdapterLayout) {
        self.init(unset: layout)
        values.initialize(repeating: 0, count: layout.parameterCount)
    }

    /// For who sets all values.
    init(unset layout: AdapterLayout) {
        self.layout = layout
        values = .allocate(capacity: max(layout.parameterCount, 1))
    }

    deinit { values.deallocate() }

    /// A uniform in ±1/sqrt(in) (Kaiming uniform with a = sqrt 5, as PEFT), each A from a random stream of its own; B
    /// zero. Magnitudes depend on the base: see `initializeMagnitudes`.
    public func initialize(seed: UInt64) {
        for pair in layout.pairs {
            var random = SplitMix64(seed: seed &+ SplitMix64.hash(pair.nameA))
            let bound = 1 / Float(pair.inputs).squareRoot()
            for index in 0..<pair.countA {
                values[pair.offset + index] = (2 * random.nextUnit() - 1) * bound
            }
            (values + pair.offsetB).update(repeating: 0, count: pair.countB)
        }
    }

    /// Whether no value is infinite or not a number.
    public var isFinite: Bool { Self.areFinite(UnsafeBufferPointer(start: values, count: layout.parameterCount)) }

    static func areFinite(_ values: UnsafeBufferPointer<Float>) -> Bool {
        // Without an early end the compiler uses vectors.
        var worst: UInt32 = 0
        for value in values { worst = max(worst, value.bitPattern & 0x7F80_0000) }
        return worst < 0x7F80_0000
    }

    /// A (r, in) of `pair`.
    func matrixA(_ pair: LowRankPair) -> UnsafePointer<Float> { UnsafePointer(values + pair.offset) }
    /// B (out, r) of `pair`.
    func matrixB(_ pair: LowRankPair) -> UnsafePointer<Float> { UnsafePointer(values + pair.offsetB) }
    /// Row factors (out) of `pair`, which has them.
    func rowFactors(_ pair: LowRankPair) -> UnsafePointer<Float> { UnsafePointer(values + pair.offsetRowFactors) }
}
