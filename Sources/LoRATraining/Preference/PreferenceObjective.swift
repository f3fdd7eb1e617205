internal import Foundation
public import LoRAModel
internal import OrderedCollections

/// DPO or ORPO over the pairs of a step: losses, gradients, and what is logged of them under TRL's names.
///
/// The reference of DPO is the model that the run began with: the base itself, or, where an adapter is trained further,
/// the base with that adapter. It is no second model but a copy of the adapter's first values, put in the place of the
/// present ones for a forward pass. The reference's passes are packed as the model's own, so that they agree bit for bit
/// where the adapters do.
public final class PreferenceObjective {
    let kind: Objective
    let beta: Double
    /// The adapter as the run began; nil where the objective has no reference.
    private let reference: AdapterParameters?

    /// - Parameter initial: the adapter before its first step.
    public init(_ kind: Objective, beta: Double, initial: AdapterParameters) {
        precondition(kind.comparesAnswers, "\(kind.rawValue) compares no answers")
        self.kind = kind
        self.beta = beta
        if kind == .dpo {
            let copy = AdapterParameters(layout: initial.layout)
            copy.values.update(from: initial.values, count: initial.layout.parameterCount)
            reference = copy
        } else {
            reference = nil
        }
    }

    /// Pairs that are evaluated at a time.
    private static let window = 64

    private var learnsPrompts: Bool { kind == .orpo }

    /// The outcome of `pairs`; the gradients of their loss ADD to `gradients` (parameterCount).
    /// - Parameter dropoutSeed: of each pass.
    func gather(
        _ pairs: [PreferencePair], pass: TrainingPass, gradients: UnsafeMutablePointer<Float>,
        dropoutSeed: (_ pass: Int) -> UInt64
    ) -> StepOutcome {
        let batches = packed(pairs, pass, sharingPrefix: pass.dropout == 0)
        let references = references(batches, pass)
        let textTokens = pairs.reduce(0) { $0 + PreferenceTotals.textTokens($1) }
        var totals = PreferenceTotals()
        for (index, batch) in batches.enumerated() {
            pass.run(batch.batch, gradients: gradients, dropoutSeed: dropoutSeed(index)) { losses in
                let results = compare(batch, losses, references[index])
                totals.add(batch, losses, results)
                for (place, result) in zip(batch.targets, results) {
                    let (chosen, rejected) = (
                        result.slopes.chosen / Double(pairs.count), result.slopes.rejected / Double(pairs.count)
                    )
                    for target in place.chosen {
                        losses[target] = Float(
                            (learnsPrompts ? 1 / Double(textTokens) : 0)
                                - (batch.isAnswer[target] ? chosen : 0))
                    }
                    for target in place.rejected { losses[target] = Float(-rejected) }
                }
            }
        }
        return totals.outcome(kind)
    }

    /// The outcome of `pairs`, without dropout and gradients.
    /// - Returns: nil when `isInterrupted` said so, which is asked before each pass of the model.
    func evaluate(
        _ pairs: some RandomAccessCollection<PreferencePair>, pass: TrainingPass, isInterrupted: () -> Bool = { false }
    ) -> StepOutcome? {
        var totals = PreferenceTotals()
        var rest = pairs[...]
        while !rest.isEmpty {
            let batches = packed(Array(rest.prefix(Self.window)), pass, sharingPrefix: true)
            rest = rest.dropFirst(Self.window)
            for batch in batches {
                if isInterrupted() { return nil }
                let reference = references([batch], pass)[0]
                if isInterrupted() { return nil }
                let losses = pass.losses(batch.batch)
                totals.add(batch, losses, compare(batch, losses, reference))
            }
        }
        return totals.outcome(kind)
    }

    private func packed(_ pairs: [PreferencePair], _ pass: TrainingPass, sharingPrefix: Bool) -> [PairBatch] {
        PairBatch.packing(
            pairs, capacity: pass.capacity, learningPrompts: learnsPrompts, sharingPrefix: sharingPrefix)
    }

    private func compare(
        _ batch: PairBatch, _ losses: some Collection<Float>, _ references: [(chosen: Double, rejected: Double)]
    ) -> [PreferenceLoss] {
        let policy = batch.logProbabilities(losses)
        if kind == .dpo {
            return zip(policy, references).map { .dpo(policy: $0, reference: $1, beta: beta) }
        }
        return zip(policy, batch.pairs).map { sums, pair in
            .orpo(sums: sums, tokens: (pair.chosen.supervisedCount, pair.rejected.supervisedCount), beta: beta)
        }
    }

    /// What the reference gives the answers of each batch; empty where there is none.
    private func references(
        _ batches: [PairBatch], _ pass: TrainingPass
    ) -> [[(chosen: Double, rejected: Double)]] {
        guard let reference else { return batches.map { _ in [] } }
        exchange(reference, pass.adapter)
        defer { exchange(reference, pass.adapter) }
        return batches.map { $0.logProbabilities(pass.losses($0.batch)) }
    }

    private func exchange(_ one: AdapterParameters, _ other: AdapterParameters) {
        for index in 0..<one.layout.parameterCount { swap(&one.values[index], &other.values[index]) }
    }
}

/// Sums over pairs.
private struct PreferenceTotals {
    private var results: [PreferenceLoss] = []
    private var tokens = 0
    private var supervisedTokens = 0
    /// Loss of the chosen texts' targets.
    private var textLoss = 0.0
    private var textTokens = 0

    /// Targets of the chosen text where its prompt is learned.
    static func textTokens(_ pair: PreferencePair) -> Int {
        PackedBatch.rowsNeeded(supervised: pair.chosen.supervised)
    }

    mutating func add<Losses: RandomAccessCollection<Float>>(
        _ batch: PairBatch, _ losses: Losses, _ results: [PreferenceLoss]
    ) where Losses.Index == Int {
        self.results += results
        for place in batch.targets { textLoss += place.chosen.reduce(0) { $0 + Double(losses[$1]) } }
        for pair in batch.pairs {
            tokens += pair.tokenCount
            supervisedTokens += pair.supervisedCount
            textTokens += Self.textTokens(pair)
        }
    }

    func outcome(_ kind: Objective) -> StepOutcome {
        var loss = mean { $0.loss }
        var metrics: OrderedDictionary<String, Double> = [
            "rewards/chosen": mean { $0.rewards.chosen },
            "rewards/rejected": mean { $0.rewards.rejected },
            "rewards/accuracies": mean { $0.rewards.chosen > $0.rewards.rejected ? 1 : 0 },
            "rewards/margins": mean { $0.rewards.chosen - $0.rewards.rejected },
            "logps/chosen": mean { $0.logProbabilities.chosen },
            "logps/rejected": mean { $0.logProbabilities.rejected },
        ]
        if kind == .orpo {
            let text = textLoss / Double(max(textTokens, 1))
            loss += text
            metrics["nll_loss"] = text
            metrics["log_odds_ratio"] = mean { PreferenceLoss.logSigmoid($0.logOddsRatio) }
            metrics["log_odds_chosen"] = mean { $0.logOddsRatio }
        }
        return StepOutcome(
            loss: loss, tokens: tokens, supervisedTokens: supervisedTokens, metrics: metrics)
    }

    private func mean(_ value: (PreferenceLoss) -> Double) -> Double {
        results.reduce(0) { $0 + value($1) } / Double(max(results.count, 1))
    }
}

extension Trainer {
    /// One optimizer step of a preference objective over `pairs`. Its loss is the mean over the pairs, however they are
    /// cut into passes.
    /// - Throws: `TrainingError.diverged` when loss or gradients are not finite; the adapter is then as before.
    public func step(
        _ pairs: [PreferencePair], objective: PreferenceObjective, learningRate: Double
    ) throws(TrainingError) -> StepReport {
        try optimize(learningRate: learningRate) { gradients, number in
            objective.gather(pairs, pass: pass, gradients: gradients) { dropoutSeed(step: number, pass: $0) }
        }
    }
}
