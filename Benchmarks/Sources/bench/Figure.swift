/// A number that a run has, by the name that reports and thresholds use.
enum Figure: String, Codable, CaseIterable {
    case tokensPerSecond, fastestTokensPerSecond, gigaflopsPerSecond
    case ceiling, blockedCeiling, ceilingDrift, ofCeiling, ofBlockedCeiling, readBandwidth, ofBandwidth
    case stepSeconds, forwardSeconds, lossSeconds, backwardSeconds, optimizerSeconds, dataSeconds
    case secondsToFirstStep, secondsToFirstStepEnd, peakMegabytes
    /// Milliseconds; the last of a hundred waits, and the one in the middle.
    case firstText50, firstText99, gap50, gap99

    /// Nil where the workload has no such figure.
    func value(_ run: Run) -> Double? {
        let measurement = run.measurement
        guard let step = measurement.medianStep else { return nil }
        let performed = measurement.gigaflopsPerToken.map { $0 * step.tokensPerSecond }
        return switch self {
        case .tokensPerSecond: step.tokensPerSecond
        case .fastestTokensPerSecond: measurement.fastestStep?.tokensPerSecond
        case .gigaflopsPerSecond: performed
        case .ceiling: run.ceiling
        case .blockedCeiling: run.blockedCeiling
        case .ceilingDrift: abs(run.after.rowMajor / run.before.rowMajor - 1)
        case .ofCeiling: performed.map { $0 / run.ceiling }
        case .ofBlockedCeiling: performed.map { $0 / run.blockedCeiling }
        case .readBandwidth: run.readBandwidth
        case .ofBandwidth: run.ofBandwidth
        case .stepSeconds: step.seconds
        case .forwardSeconds: step.forward
        case .lossSeconds: step.loss
        case .backwardSeconds: step.backward
        case .optimizerSeconds: step.optimizer
        case .dataSeconds: measurement.dataSeconds
        case .secondsToFirstStep: measurement.secondsToFirstStep
        case .secondsToFirstStepEnd: measurement.secondsToFirstStepEnd
        case .peakMegabytes: Double(measurement.peakResidentBytes) / 1e6
        case .firstText50: measurement.waits.flatMap { percentile($0.firstTexts, 0.5) }.map { $0 * 1e3 }
        case .firstText99: measurement.waits.flatMap { percentile($0.firstTexts, 0.99) }.map { $0 * 1e3 }
        case .gap50: measurement.waits.flatMap { percentile($0.gaps, 0.5) }.map { $0 * 1e3 }
        case .gap99: measurement.waits.flatMap { percentile($0.gaps, 0.99) }.map { $0 * 1e3 }
        }
    }
}
