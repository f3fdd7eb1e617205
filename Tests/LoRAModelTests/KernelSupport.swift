import CKernels
import Foundation
import TestSupport
import Testing

/// All kernel tests: one after the other, because the variant in use is global to the process.
@Suite("Kernels", .serialized)
enum KernelTests {}

/// A CPU variant as a test argument.
struct Variant: Sendable, CustomTestStringConvertible {
    let cpu: lora_cpu

    /// Every variant that this machine runs.
    static let all: [Variant] = (0...lora_cpu_best().rawValue).map { Variant(cpu: lora_cpu(rawValue: $0)) }

    var testDescription: String {
        let names = ["portable", "AVX2", "AVX-512", "AVX-512 VNNI", "AVX-512 BF16"]
        return names[Int(cpu.rawValue)]
    }

    /// Runs `body` with this variant, then goes back to the best. All test targets run in one process: those that compare
    /// bits hold a shared lock on the directory of all tests (`VariantLock`).
    func use(_ body: () throws -> Void) rethrows {
        let lock = VariantLock.exclusive()
        defer { lock.release() }
        #expect(lora_cpu_use(cpu) == 0)
        defer { _ = lora_cpu_use(lora_cpu_best()) }
        try body()
    }
}

/// Sizes around every vector width, and one that fills several blocks.
let oddSizes = [1, 7, 8, 9, 31, 33, 200]

/// SplitMix64: the same numbers in every run.
struct Numbers {
    var state: UInt64

    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }

    /// Uniform in ±scale.
    mutating func floats(_ count: Int, scale: Float = 1) -> [Float] {
        (0..<count).map { _ in (Float(next() >> 40) / 8_388_608 - 1) * scale }
    }
}

/// Floats at a fixed address, for kernels that keep pointers.
final class Floats {
    let base: UnsafeMutablePointer<Float>
    let count: Int

    init(_ values: [Float]) {
        count = values.count
        base = .allocate(capacity: max(count, 1))
        base.initialize(from: values, count: count)
    }

    deinit { base.deallocate() }

    var array: [Float] { Array(UnsafeBufferPointer(start: base, count: count)) }
}

/// The largest difference, relative to the largest expected magnitude; infinite when a value is not finite.
func error(_ actual: [Float], _ expected: [Double]) -> Double {
    precondition(actual.count == expected.count, "\(actual.count) values, \(expected.count) expected")
    var worst = 0.0
    for (a, b) in zip(actual, expected) {
        let difference = abs(Double(a) - b)
        worst = difference.isFinite ? max(worst, difference) : .infinity
    }
    let largest = expected.reduce(0) { max($0, abs($1)) }
    return largest == 0 ? worst : worst / largest
}

/// What f32 sums of `terms` products may lose: half a unit in the last place each, in a random walk, with a factor of 4
/// for the worst element of many.
func tolerance(terms: Int) -> Double { 4 * 6e-8 * (2 + Double(terms).squareRoot()) }

func doubles(_ values: [Float]) -> [Double] { values.map(Double.init) }

func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }

/// Rows of `width` values spread `stride` apart, the gaps filled with `gap`.
func strided(_ values: [Float], width: Int, stride: Int, gap: Float) -> [Float] {
    var spread: [Float] = []
    for row in 0..<(values.count / width) {
        spread += values[row * width..<(row + 1) * width]
        spread += [Float](repeating: gap, count: stride - width)
    }
    return spread
}

/// The rows again, and whether every gap still holds `gap`.
func gathered(_ spread: [Float], width: Int, stride: Int, gap: Float) -> (values: [Float], gapsIntact: Bool) {
    var values: [Float] = []
    var intact = true
    for row in 0..<(spread.count / stride) {
        values += spread[row * stride..<row * stride + width]
        intact = intact && spread[(row * stride + width)..<(row + 1) * stride].allSatisfy { $0 == gap }
    }
    return (values, intact)
}

/// Compares the derivative of `loss` along `direction`, by central differences in double precision, with the gradient.
/// The differences are good to about 1e-7 (step² times the third derivative); the gradient is f32.
func expectGradient(
    _ gradient: [Float], of loss: ([Double]) -> Double, at point: [Float], seed: UInt64,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    var numbers = Numbers(seed)
    let step = 1e-4
    let length = doubles(gradient).reduce(0) { $0 + $1 * $1 }.squareRoot()
    for _ in 0..<3 {
        let direction = doubles(numbers.floats(point.count))
        let ahead = loss(zip(point, direction).map { Double($0) + step * $1 })
        let behind = loss(zip(point, direction).map { Double($0) - step * $1 })
        let expected = (ahead - behind) / (2 * step)
        let actual = dot(doubles(gradient), direction)
        #expect(
            abs(actual - expected) <= 2e-5 * max(length, 1e-3), "\(actual), by differences \(expected)",
            sourceLocation: sourceLocation)
    }
}
