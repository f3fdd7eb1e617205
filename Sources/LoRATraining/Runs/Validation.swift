internal import LoRAModel

/// The validation data's loss, measured so that a user who wants to end does not wait for it.
struct Validation {
    let examples: Dataset.Examples
    let pass: TrainingPass

    /// Examples packed at a time.
    private static let piece = 256

    /// - Returns: nil when `isInterrupted` said so, which is asked before each pass.
    func loss(isInterrupted: () -> Bool) -> Double? {
        var (sum, supervised) = (0.0, 0)
        for start in stride(from: 0, to: examples.count, by: Self.piece) {
            let part = Array(examples[start..<min(start + Self.piece, examples.count)])
            for batch in PackedBatch.packing(part, capacity: pass.capacity, sharingPrefix: true) {
                if isInterrupted() { return nil }
                sum += pass.evaluate(batch)
            }
            supervised += part.reduce(0) { $0 + $1.supervisedCount }
        }
        return Evaluation.Loss(sum: sum, supervisedTokens: supervised).mean
    }
}
