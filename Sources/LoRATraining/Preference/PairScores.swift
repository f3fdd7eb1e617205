public import LoRAModel

/// How likely a model finds both answers of each of some pairs.
public struct PairScores: Sendable {
    /// Log-probabilities, each summed over the tokens of its answer.
    let sums: [(chosen: Double, rejected: Double)]
    let tokens: [(chosen: Int, rejected: Int)]

    /// Scores of `model`, with `adapter` or without.
    /// - Throws: `FormatError` when the memory cannot be had.
    public init(
        of pairs: some RandomAccessCollection<PreferencePair>, model: BaseModel, adapter: AdapterParameters?,
        pool: ThreadPool, compute: Compute
    ) throws {
        let longest = pairs.reduce(1) { max($0, PairBatch.rows($1)) }
        let pass = try TrainingPass(
            evaluating: model, adapter: adapter, longest: longest, pool: pool, compute: compute)
        var (sums, tokens): ([(chosen: Double, rejected: Double)], [(chosen: Int, rejected: Int)]) = ([], [])
        Evaluation.forEachWindow(of: pairs) { pairs in
            let batches = PairBatch.packing(
                pairs, capacity: pass.capacity, learningPrompts: false, sharingPrefix: true)
            for batch in batches { sums += batch.logProbabilities(pass.losses(batch.batch)) }
            tokens += pairs.map { ($0.chosen.supervisedCount, $0.rejected.supervisedCount) }
        }
        self.sums = sums
        self.tokens = tokens
    }

    /// Loss of the chosen answers, mean per token in nats.
    public var chosenLoss: Double {
        -sums.reduce(0) { $0 + $1.chosen } / Double(max(tokens.reduce(0) { $0 + $1.chosen }, 1))
    }

    /// Share of pairs whose chosen answer is the likelier one, per token.
    public var ranking: Double {
        mean(zip(sums, tokens)) { sum, count in
            sum.chosen / Double(count.chosen) > sum.rejected / Double(count.rejected) ? 1 : 0
        }
    }

    /// Share of pairs of which `reference` thinks less of the chosen answer, in comparison with the rejected one: the
    /// accuracy of DPO's rewards.
    public func accuracy(against reference: PairScores) -> Double {
        mean(zip(sums, reference.sums)) { Self.margin($0, $1) > 0 ? 1 : 0 }
    }

    /// Mean of β ((πc - ρc) - (πr - ρr)), ρ being `reference`'s: the margin of DPO's rewards.
    public func margin(against reference: PairScores, beta: Double) -> Double {
        mean(zip(sums, reference.sums)) { beta * Self.margin($0, $1) }
    }

    private static func margin(
        _ own: (chosen: Double, rejected: Double), _ other: (chosen: Double, rejected: Double)
    ) -> Double {
        (own.chosen - other.chosen) - (own.rejected - other.rejected)
    }

    private func mean<Items: Sequence>(_ items: Items, _ value: (Items.Element) -> Double) -> Double {
        items.reduce(0) { $0 + value($1) } / Double(max(sums.count, 1))
    }
}
