internal import LoRAModel

/// What part of the training data to keep for validation.
public enum HoldOut: Sendable, Equatable {
    /// Between 0 and 1.
    case share(Double)
    /// Examples.
    case count(Int)
}

extension Dataset {
    /// The examples to train on, and those held out; both in the order of the file.
    ///
    /// The seed decides, and the row itself: copies of a row are all on one side, so that a few more than asked for may
    /// be held out. O(n log n).
    /// - Throws: `TrainingDataError` when nothing is left to train on.
    public func holdingOut(_ part: HoldOut, seed: UInt64) throws -> (train: Dataset, held: Dataset) {
        let draws = rowHashes().map { SplitMix64(seed: seed, stream: $0).state }
        let wanted =
            switch part {
            case .share(let share): max(1, Int((share * Double(draws.count)).rounded()))
            case .count(let count): count
            }
        let last = wanted <= draws.count ? draws.sorted()[wanted - 1] : .max
        var (train, held): ([UInt32], [UInt32]) = ([], [])
        let size = form.examplesPerRow
        for (row, draw) in draws.enumerated() {
            let records = (row * size..<(row + 1) * size).map { UInt32(examples.record($0)) }
            if draw <= last { held += records } else { train += records }
        }
        guard !train.isEmpty else {
            throw TrainingDataError(
                "\(path): nothing is left to train on when \(wanted) of \(draws.count) examples are held out; hold out "
                    + "fewer")
        }
        let heldExamples = Examples(file: examples.file, selection: held)
        let tokens = heldExamples.indices.reduce(0) { $0 + heldExamples.tokenCount(at: $1) }
        let supervised = heldExamples.reduce(0) { $0 + $1.supervisedCount }
        return (
            Dataset(
                self, selection: train, tokenCount: tokenCount - tokens, supervisedCount: supervisedCount - supervised,
                isHeldOut: false),
            Dataset(self, selection: held, tokenCount: tokens, supervisedCount: supervised, isHeldOut: true)
        )
    }
}
