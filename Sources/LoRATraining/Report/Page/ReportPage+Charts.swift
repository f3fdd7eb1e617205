internal import LoRAModel
internal import OrderedCollections

/// What happened over the steps.
extension ReportPage {
    var learning: HTML? {
        let raw = content.series("training", mark: .faint) { $0.report.loss }
        let trained = content.withSmoothing(raw, "training, smoothed")
        let valid = content.evaluationSeries("validation") { $0.loss }
        let kept = content.summary.keptStep
        let note =
            valid == nil
            ? ""
            : kept == content.summary.steps
                ? " The adapter of the last step was kept."
                : " The adapter of step \(NumberText.grouped(kept)), which validated best, was kept."
        let loss = LineChart(
            id: "loss", title: "Loss", caption: "Of each step, by step. \(smoothingNote(raw))\(note)",
            series: trained + [valid].compactMap { $0 }, isWide: true,
            scale: scale(of: raw.values + (valid?.values ?? [])))
        return section("learning", "Learning", [raw.steps.isEmpty ? nil : loss.figure])
    }

    var gradients: HTML? {
        guard !content.steps.isEmpty else { return nil }
        let norm = content.series("norm", mark: .faint) { $0.report.gradientNorm }
        let rate = content.series("learning rate") { $0.report.learningRate }
        return section(
            "gradients", "Gradients and learning rate",
            [
                LineChart(
                    id: "grad-norm", title: "Gradient norm", caption: "Of all gradients of a step, before clipping.",
                    series: content.withSmoothing(norm, "norm, smoothed"), scale: scale(of: norm.values)
                ).figure,
                LineChart(
                    id: "learning-rate", title: "Learning rate", caption: "Of each step.", series: [rate],
                    includesZero: true
                ).figure,
                blockGradients,
            ])
    }

    /// Blocks down the page, steps across it.
    private var blockGradients: HTML? {
        let steps = content.steps.filter { !$0.blockGradientNorms.isEmpty }
        guard let blocks = steps.map(\.blockGradientNorms.count).max(), let first = steps.first else { return nil }
        let size = (steps.count + 69) / 70
        let bins = stride(from: 0, to: steps.count, by: size).map { steps[$0..<min($0 + size, steps.count)] }
        let values = (0..<blocks).map { block in
            bins.map { bin -> Double? in
                let norms = bin.compactMap { block < $0.blockGradientNorms.count ? $0.blockGradientNorms[block] : nil }
                return norms.isEmpty ? nil : norms.reduce(0, +) / Double(norms.count)
            }
        }
        let names = bins.map { bin -> String in
            let (lower, upper) = (bin.first?.report.step ?? 0, bin.last?.report.step ?? 0)
            return lower == upper ? "step \(lower)" : "steps \(lower) – \(upper)"
        }
        let axis = Axis(steps: first.report.step, steps.last?.report.step ?? 1, tickCount: 10)
        let ticks = axis.ticks.compactMap { tick -> (column: Int, text: String)? in
            let column = bins.firstIndex { ($0.last?.report.step ?? 0) >= Int(tick) }
            return column.map { ($0, NumberText.grouped(Int(tick))) }
        }
        return HeatMap(
            id: "block-gradients", title: "Gradient norm of each block",
            caption: size == 1 ? "By step." : "By step, the mean of \(size) steps.",
            rows: (0..<blocks).map { "block \($0)" }, columns: names, values: values, columnTicks: ticks,
            tableColumns: sample(names.count, 8)
        ).figure
    }

    /// Modules down the page, blocks across it.
    var change: HTML? {
        let modules = TargetModule.allCases.filter { target in content.changes.contains { $0.target == target } }
        guard let last = content.changes.map(\.block).max() else { return nil }
        var ratios = [[Double?]](repeating: [Double?](repeating: nil, count: last + 1), count: modules.count)
        for change in content.changes {
            if let row = modules.firstIndex(of: change.target) { ratios[row][change.block] = change.ratio }
        }
        let every = max(1, (last + 40) / 40)
        let map = HeatMap(
            id: "change-map", title: "‖ΔW‖ / ‖W‖ of each projection",
            caption: "Frobenius norm of what the adapter adds to a weight, relative to that weight's, by block.",
            rows: modules.map(\.rawValue), columns: (0...last).map { "block \($0)" }, values: ratios,
            columnTicks: (0...last).filter { $0 % every == 0 }.map { ($0, String($0)) })
        return section("change", "What the adapter changes", [map.figure])
    }

    var machine: HTML? {
        guard !content.steps.isEmpty else { return nil }
        let speed = content.series("tokens/s", mark: .faint) { $0.tokensPerSecond }
        let memory = content.series("memory") { Double($0.peakResidentBytes) }
        return section(
            "machine", "Speed and memory",
            [
                LineChart(
                    id: "speed", title: "Tokens per second", caption: "Tokens of a step by its time.",
                    series: content.withSmoothing(speed, "tokens/s, smoothed"), includesZero: true
                ).figure,
                LineChart(
                    id: "memory", title: "Memory",
                    caption: "The most that the process has had resident so far, the mapped base with it.",
                    series: [memory], includesZero: true, describe: { NumberText.bytes($0) }
                ).figure,
            ])
    }

    /// What an objective measures beside its loss.
    var metrics: HTML? {
        section(
            "metrics", "What the objective measures",
            content.metricNames.enumerated().map { index, name in
                let trained = content.series("training", mark: .faint) { $0.report.outcome.metrics[name] }
                let valid = content.evaluationSeries("validation") { $0.metrics[name] }
                return LineChart(
                    id: "metric-\(index)", title: name, caption: smoothingNote(trained),
                    series: content.withSmoothing(trained, "training, smoothed") + [valid].compactMap { $0 }
                ).figure
            })
    }

    private func smoothingNote(_ raw: Series) -> String {
        let span = ReportContent.smoothingSpan(raw.steps.count)
        return span < 3 ? "" : "Smoothed over about \(span) steps."
    }

    /// Values of several magnitudes need a logarithmic axis to be seen.
    private func scale(of values: [Double]) -> Axis.Scale {
        guard let lowest = values.min(), let highest = values.max(), lowest > 0 else { return .linear }
        return highest / lowest > 30 ? .logarithmic : .linear
    }

    private func sample(_ count: Int, _ wanted: Int) -> [Int] {
        count <= wanted ? Array(0..<count) : (0..<wanted).map { $0 * (count - 1) / (wanted - 1) }
    }
}
