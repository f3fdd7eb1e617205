extension RowForm {
    /// Examples that a row becomes, neighbours in the data set: one, or both texts of a pair.
    public var examplesPerRow: Int { self == .preference ? 2 : 1 }
}

extension Dataset {
    /// Rows that became examples.
    public var rowCount: Int { examples.count / form.examplesPerRow }

    /// The rows of the form `preference`; each is made of its examples when it is asked for.
    public struct Pairs: RandomAccessCollection, Sendable {
        fileprivate let examples: Examples

        public var startIndex: Int { 0 }
        public var endIndex: Int { examples.count / 2 }

        public subscript(position: Int) -> PreferencePair {
            PreferencePair(chosen: examples[2 * position], rejected: examples[2 * position + 1])
        }
    }

    /// The pairs of the rows, which have to be such.
    public var pairs: Pairs {
        precondition(form == .preference, "rows of the form \(form.rawValue) are no pairs")
        return Pairs(examples: examples)
    }

    /// - Throws: `TrainingDataError` when the rows are not what `objective` learns from.
    func check(_ objective: Objective) throws(TrainingDataError) {
        guard objective.comparesAnswers != (form == .preference) else { return }
        throw TrainingDataError(
            objective.comparesAnswers
                ? "\(path): the rows have the form \(form.rawValue), but --objective \(objective.rawValue) learns from "
                    + RowForm.preference.rawValue
                : "\(path): the rows have the form \(form.rawValue); learn from them with --objective dpo or orpo"
        )
    }
}

extension Trainer {
    /// One optimizer step over `rows` of `dataset`.
    /// - Parameter objective: nil for the loss of the answers.
    /// - Throws: `TrainingError.diverged` when loss or gradients are not finite; the adapter is then as before.
    public func step(
        _ rows: [Int], of dataset: Dataset, objective: PreferenceObjective?, learningRate: Double
    ) throws(TrainingError) -> StepReport {
        guard let objective else {
            return try step(rows.map { dataset.examples[$0] }, learningRate: learningRate)
        }
        let pairs = dataset.pairs
        return try step(rows.map { pairs[$0] }, objective: objective, learningRate: learningRate)
    }
}
