import OrderedCollections

@testable import LoRATraining

/// Records of a run that never was.
enum ReportRecords {
    static func step(
        _ step: Int, loss: Double = 1, blocks: [Double] = [0.5, 0.25], metrics: OrderedDictionary<String, Double> = [:]
    ) -> RunEvent {
        let outcome = StepOutcome(loss: loss, tokens: 100, supervisedTokens: 40, metrics: metrics)
        let report = StepReport(step: step, outcome: outcome, gradientNorm: 2, learningRate: 1e-3)
        return .step(
            StepRecord(
                report: report, epoch: Double(step) / 10, blockGradientNorms: blocks, seconds: 0.5,
                peakResidentBytes: 1 << 29))
    }

    static func evaluation(
        _ step: Int, loss: Double = 1.5, metrics: OrderedDictionary<String, Double> = [:]
    ) -> RunEvent {
        .evaluation(EvaluationRecord(step: step, loss: loss, isBest: true, seconds: 1, metrics: metrics))
    }
}
