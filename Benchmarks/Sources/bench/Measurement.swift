/// What a worker reports.
struct Measurement: Codable {
    /// Seconds of one optimizer step, and of the parts of it.
    struct Step: Codable {
        /// All tokens of the examples; there is no padding.
        let tokens: Int
        let seconds: Double
        let forward: Double
        let loss: Double
        let backward: Double
        /// GB/s that memory gave just before and after, for decoding alone.
        var readBandwidth: Double?

        /// Packing, clipping and AdamW: what the phases do not cover.
        var optimizer: Double { seconds - forward - loss - backward }
        var tokensPerSecond: Double { Double(tokens) / seconds }
    }

    let workload: String
    /// Whether it is serving that was measured: phases of a step are then not told apart.
    var isServing = false
    /// The library that multiplies matrices.
    let engine: String
    let threads: Int
    /// Whether the tape keeps block inputs only.
    let recomputes: Bool
    /// The first one warms up.
    let steps: [Step]
    /// Seconds that reading and encoding the rows of one step took; nil for random tokens.
    let dataSeconds: Double?
    /// Since the process started; nil where /proc does not tell.
    let secondsToFirstStep: Double?
    let secondsToFirstStepEnd: Double?
    /// The map of the base included.
    let peakResidentBytes: Int
    /// Of the floor. Nil for rows: those that begin alike share the rows of that prefix and nothing is computed after
    /// the last supervised token, so there are tokens that cost nothing.
    let gigaflopsPerToken: Double?
    /// Of weights, for decoding alone.
    var gigabytesPerToken: Double?
    /// What clients of an engine waited for.
    var waits: Waits?

    /// Seconds, of all requests of all steps but the first.
    struct Waits: Codable {
        /// From a request to its first text.
        var firstTexts: [Double] = []
        /// From a text to the next one of the same answer.
        var gaps: [Double] = []
    }

    private var bySpeed: [Step] { steps.dropFirst().sorted { $0.tokensPerSecond < $1.tokensPerSecond } }
    /// The slower of the two in the middle where their number is even.
    var medianStep: Step? {
        let sorted = bySpeed
        return sorted.isEmpty ? nil : sorted[(sorted.count - 1) / 2]
    }
    var fastestStep: Step? { bySpeed.last }
}

/// A measurement with the ceilings measured before and after it.
struct Run: Codable {
    let measurement: Measurement
    let before: Ceiling
    let after: Ceiling

    var ceiling: Double { (before.rowMajor + after.rowMajor) / 2 }
    var blockedCeiling: Double { (before.blocked + after.blocked) / 2 }
    /// GB/s.
    var readBandwidth: Double {
        median(measurement.steps.dropFirst().compactMap(\.readBandwidth))
            ?? (before.readBandwidth + after.readBandwidth) / 2
    }
    /// Of what memory gave, the share that decoding read: the median over the steps, each by its own minute.
    var ofBandwidth: Double? {
        measurement.gigabytesPerToken.flatMap { bytes in
            median(
                measurement.steps.dropFirst().compactMap { step in
                    step.readBandwidth.map { bytes * step.tokensPerSecond / $0 }
                })
        }
    }
}
