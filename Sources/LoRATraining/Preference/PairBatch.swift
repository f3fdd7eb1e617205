internal import LoRAModel

/// Pairs packed into one batch. Both answers of a pair are in the same one, for the gradient of either depends on both.
struct PairBatch {
    let pairs: [PreferencePair]
    let batch: PackedBatch
    /// Where the targets of each chosen and of each rejected text are among the batch's.
    let targets: [(chosen: Range<Int>, rejected: Range<Int>)]
    /// Whether each target is part of an answer, not of a prompt that is learned with it.
    let isAnswer: [Bool]

    /// - Parameter prefix: tokens that all texts begin with, computed once.
    private init(_ pairs: [PreferencePair], learningPrompts: Bool, prefix: ArraySlice<Int32>) {
        var batch = PackedBatch(prefix: prefix)
        var isAnswer: [Bool] = []
        func append(_ example: Example, _ learned: [Bool]) -> Range<Int> {
            let first = batch.targets.count
            batch.append(tokens: example.tokens, supervised: learned)
            for (isAnswers, isLearned) in zip(example.supervised, learned) where isLearned {
                isAnswer.append(isAnswers)
            }
            return first..<batch.targets.count
        }
        targets = pairs.map { pair in
            // Tokens after the answer are no target: nothing depends on them.
            let end = PackedBatch.rowsNeeded(supervised: pair.chosen.supervised)
            let text = pair.chosen.tokens.indices.map { (1...max(end, 1)).contains($0) }
            let chosen = append(pair.chosen, learningPrompts ? text : pair.chosen.supervised)
            return (chosen, append(pair.rejected, pair.rejected.supervised))
        }
        self.pairs = pairs
        self.batch = batch
        self.isAnswer = isAnswer
    }

    /// `pairs` in order, as many in each batch as fit `capacity` rows.
    /// - Parameters:
    ///   - learningPrompts: whether all of a chosen text up to the end of its answer is a target, its prompt too.
    ///   - sharingPrefix: whether tokens that all texts of a batch begin with are computed once. A batch of one long pair
    ///     so computes its prompt once.
    static func packing(
        _ pairs: [PreferencePair], capacity: Int, learningPrompts: Bool, sharingPrefix: Bool
    ) -> [PairBatch] {
        var batches: [PairBatch] = []
        var group: [PreferencePair] = []
        func prefix(_ group: [PreferencePair]) -> ArraySlice<Int32> {
            // Where prompts are targets themselves there is nothing to share.
            guard sharingPrefix, !learningPrompts else { return [] }
            return PackedBatch.commonPrefix(group.flatMap { [$0.chosen, $0.rejected] })
        }
        func close() {
            guard !group.isEmpty else { return }
            batches.append(PairBatch(group, learningPrompts: learningPrompts, prefix: prefix(group)))
            group = []
        }
        for pair in pairs {
            if rows(group + [pair], prefix: prefix(group + [pair]).count) > capacity { close() }
            group.append(pair)
            let needed = rows(group, prefix: prefix(group).count)
            precondition(needed <= capacity, "a pair of \(needed) rows in a pass of \(capacity)")
        }
        close()
        return batches
    }

    /// The rows that a batch of this pair alone takes without sharing.
    static func rows(_ pair: PreferencePair) -> Int { rows([pair], prefix: 0) }

    private static func rows(_ pairs: [PreferencePair], prefix: Int) -> Int {
        pairs.reduce(prefix) { sum, pair in
            sum + PackedBatch.rowsNeeded(supervised: pair.chosen.supervised)
                + PackedBatch.rowsNeeded(supervised: pair.rejected.supervised) - 2 * prefix
        }
    }

    /// The summed log-probabilities of each pair's answers, of the targets' losses.
    func logProbabilities(_ losses: some Collection<Float>) -> [(chosen: Double, rejected: Double)] {
        let losses = Array(losses)
        func sum(_ range: Range<Int>) -> Double {
            range.reduce(0) { isAnswer[$1] ? $0 - Double(losses[$1]) : $0 }
        }
        return targets.map { (sum($0.chosen), sum($0.rejected)) }
    }
}
