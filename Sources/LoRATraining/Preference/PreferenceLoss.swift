internal import Foundation

/// What a preference objective makes of one pair, given the log-probabilities of its answers; as TRL computes it.
struct PreferenceLoss {
    /// Of the pair; without the loss of the chosen text, which ORPO adds for all pairs at once.
    let loss: Double
    /// The loss's derivatives by the summed log-probability of the chosen and of the rejected answer.
    let slopes: (chosen: Double, rejected: Double)
    /// How much better than the reference, or how likely, the model finds the answers, times beta.
    let rewards: (chosen: Double, rejected: Double)
    /// Log-probabilities that the objective compares: sums for DPO, means per token for ORPO.
    let logProbabilities: (chosen: Double, rejected: Double)
    /// Logarithm of the ratio of the answers' odds; ORPO's.
    var logOddsRatio = 0.0

    /// DPO's loss, equation 7 of arXiv 2305.18290: -log σ(β ((πc - ρc) - (πr - ρr))).
    /// - Parameters:
    ///   - policy: π, summed over the tokens of each answer.
    ///   - reference: ρ, the same of the model that training began with.
    static func dpo(
        policy: (chosen: Double, rejected: Double), reference: (chosen: Double, rejected: Double), beta: Double
    ) -> PreferenceLoss {
        let rewards = (
            chosen: beta * (policy.chosen - reference.chosen), rejected: beta * (policy.rejected - reference.rejected)
        )
        let margin = rewards.chosen - rewards.rejected
        let slope = beta * sigmoid(-margin)
        return PreferenceLoss(
            loss: -logSigmoid(margin), slopes: (-slope, slope), rewards: rewards, logProbabilities: policy)
    }

    /// ORPO's odds ratio loss, equation 7 of arXiv 2403.07691: -β log σ(log (odds(c) / odds(r))), where an answer's odds
    /// are p / (1 - p) and p is the geometric mean of its tokens' probabilities.
    /// - Parameters:
    ///   - sums: log-probabilities summed over the tokens of each answer.
    ///   - tokens: of each answer.
    ///   - beta: λ of the paper.
    static func orpo(
        sums: (chosen: Double, rejected: Double), tokens: (chosen: Int, rejected: Int), beta: Double
    ) -> PreferenceLoss {
        let means = (chosen: sums.chosen / Double(tokens.chosen), rejected: sums.rejected / Double(tokens.rejected))
        // The odds of what is certain are infinite.
        let (c, r) = (min(means.chosen, -1e-9), min(means.rejected, -1e-9))
        let logOdds = (c - r) - (log1mexp(c) - log1mexp(r))
        let slope = beta * sigmoid(-logOdds)
        return PreferenceLoss(
            loss: -beta * logSigmoid(logOdds),
            slopes: (
                slope / expm1(c) / Double(tokens.chosen), -slope / expm1(r) / Double(tokens.rejected)
            ),
            rewards: (beta * means.chosen, beta * means.rejected), logProbabilities: means, logOddsRatio: logOdds)
    }

    static func sigmoid(_ x: Double) -> Double { x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)) }
    static func logSigmoid(_ x: Double) -> Double { min(x, 0) - log1p(exp(-abs(x))) }
    /// log(1 - e^x) for x < 0.
    private static func log1mexp(_ x: Double) -> Double { x > -0.693 ? log(-expm1(x)) : log1p(-exp(x)) }
}
