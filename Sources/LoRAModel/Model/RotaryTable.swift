import Foundation

/// Cosines and sines of the rotary position embedding (arXiv 2104.09864) for the positions of a run.
final class RotaryTable {
    let cosines: [Float]  // (positions, D/2)
    let sines: [Float]  // (positions, D/2)

    init(model: BaseModel, positions: Int) {
        let half = model.configuration.headSize / 2
        let frequencies = (0..<half).map { index -> Double in
            let plain = pow(model.configuration.ropeBase, -Double(index) / Double(half))
            let factor = model.ropeFactors.isEmpty ? 1 : Double(model.ropeFactors[index])
            return plain / factor / model.configuration.ropeLinearFactor
        }
        var cosines = [Float](repeating: 0, count: positions * half)
        var sines = cosines
        for position in 0..<positions {
            for (index, frequency) in frequencies.enumerated() {
                let angle = Double(position) * frequency
                cosines[position * half + index] = Float(cos(angle))
                sines[position * half + index] = Float(sin(angle))
            }
        }
        self.cosines = cosines
        self.sines = sines
    }
}
