internal import LoRAModel
internal import OrderedCollections

/// What the validation data says of the objective, measured so that a user who wants to end does not wait for it.
struct Validation {
    let dataset: Dataset
    /// Nil for the loss of the answers.
    let objective: PreferenceObjective?
    let pass: TrainingPass

    /// Examples packed at a time.
    private static let piece = 256

    /// The objective's loss, and what else it measures.
    /// - Returns: nil when `isInterrupted` said so, which is asked before each pass.
    func outcome(isInterrupted: () -> Bool) -> (loss: Double, metrics: OrderedDictionary<String, Double>)? {
        if let objective {
            let outcome = objective.evaluate(dataset.pairs, pass: pass, isInterrupted: isInterrupted)
            return outcome.map { ($0.loss, $0.metrics) }
        }
        return loss(isInterrupted: isInterrupted).map { ($0, [:]) }
    }

    private func loss(isInterrupted: () -> Bool) -> Double? {
        var (sum, supervised) = (0.0, 0)
        for start in stride(from: 0, to: dataset.examples.count, by: Self.piece) {
            let part = Array(dataset.examples[start..<min(start + Self.piece, dataset.examples.count)])
            for batch in PackedBatch.packing(part, capacity: pass.capacity, sharingPrefix: true) {
                if isInterrupted() { return nil }
                sum += pass.evaluate(batch)
            }
            supervised += part.reduce(0) { $0 + $1.supervisedCount }
        }
        return Evaluation.Loss(sum: sum, supervisedTokens: supervised).mean
    }
}
