import Foundation

/// How rotary frequencies differ from the plain ones.
enum RopeScaling: Equatable {
    case none
    /// Positions are divided by `factor`.
    case linear(factor: Double)
    case llama3(Llama3Scaling)
}

/// Llama 3.1's scaling: long wavelengths are stretched by `factor`, short ones stay, those between go smoothly from one
/// to the other (`rope_type` "llama3" in transformers).
struct Llama3Scaling: Equatable {
    var factor: Double
    /// Wavelengths over `originalContext` divided by this are stretched whole.
    var lowFrequencyFactor = 1.0
    /// Wavelengths under `originalContext` divided by this stay.
    var highFrequencyFactor = 4.0
    /// Positions of the training before the stretch.
    var originalContext: Int

    /// What frequencies are divided by (D/2): the tensor rope_freqs.weight of a GGUF file.
    func divisors(base: Double, headSize: Int) -> [Float] {
        (0..<headSize / 2).map { index in
            let wavelength = 2 * Double.pi * pow(base, 2 * Double(index) / Double(headSize))
            let turns = Double(originalContext) / wavelength
            if turns > highFrequencyFactor { return 1 }
            if turns < lowFrequencyFactor { return Float(factor) }
            let share = (turns - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor)
            return Float(1 / ((1 - share) / factor + share))
        }
    }

    init(factor: Double, lowFrequencyFactor: Double = 1, highFrequencyFactor: Double = 4, originalContext: Int) {
        self.factor = factor
        self.lowFrequencyFactor = lowFrequencyFactor
        self.highFrequencyFactor = highFrequencyFactor
        self.originalContext = originalContext
    }

    /// The scaling that gives `divisors`, with the frequency factors 1 and 4 of all Llama models; nil when none does.
    init?(divisors: [Float], base: Double) {
        guard let factor = divisors.max(), factor > 1 else { return nil }
        for exponent in 4...24 {
            let candidate = Llama3Scaling(factor: Double(factor), originalContext: 1 << exponent)
            let own = candidate.divisors(base: base, headSize: 2 * divisors.count)
            if zip(own, divisors).allSatisfy({ abs($0 - $1) <= 1e-5 * $1 }) {
                self = candidate
                return
            }
        }
        return nil
    }
}
