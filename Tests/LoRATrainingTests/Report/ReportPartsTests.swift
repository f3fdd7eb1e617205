import Foundation
import Testing

@testable import LoRATraining

@Suite("Parts of a report")
struct ReportPartsTests {
    @Test("Strings are escaped wherever they go; literals and pieces are not")
    func escaping() {
        let hostile = "<script>alert('\"&')</script>\u{0}\u{1B}[2J\u{85}\r\n\t"
        let inner: HTML = "<b title=\"\(hostile)\">\(hostile)</b>"
        let escaped = "&lt;script&gt;alert(&#39;&quot;&amp;&#39;)&lt;/script&gt;\u{FFFD}\u{FFFD}[2J\u{FFFD}\u{FFFD}\n\t"
        #expect(inner.source == "<b title=\"\(escaped)\">\(escaped)</b>")
        let outer: HTML = "<i>\(inner)\(7)\(at: 1.26)\(at: 2.04)</i>"
        #expect(outer.source == "<i>\(inner.source)71.32</i>")
    }

    @Test(
        "Three digits tell a number",
        arguments: [
            (0, "0"), (0.000012345, "1.2e-05"), (0.0123456, "0.0123"), (0.5, "0.5"), (1, "1"), (12.3456, "12.3"),
            (123.456, "123"), (999.6, "1000"), (1234.4, "1,234"), (-1_234_567, "-1,234,567"), (1e20, "1e+20"),
            (.nan, "–"), (-.infinity, "–"),
        ])
    func numbers(_ value: Double, _ text: String) { #expect(NumberText.short(value) == text) }

    @Test("Axes end and tick at round numbers")
    func linearAxes() {
        let axis = Axis([0.13, 0.87], tickCount: 4)
        #expect(axis.range == 0...1)
        #expect(axis.ticks.map(NumberText.short) == ["0", "0.2", "0.4", "0.6", "0.8", "1"])
        #expect(axis.position(0.25) == 0.25)
        #expect(Axis([3, 4], includesZero: true).range.lowerBound == 0)
        #expect(Axis(steps: 1, 375, tickCount: 5).ticks == [100, 200, 300])
        #expect(Axis(steps: 1, 3, tickCount: 10).ticks == [1, 2, 3])
    }

    @Test("Axes of nothing, of one value, and of values that are far out, are axes")
    func degenerateAxes() {
        let least = Double.leastNonzeroMagnitude
        for values in [[], [0], [5], [-2], [.nan], [1e300, -1e300], [1e20, 1e20 + 16384], [least, 2 * least]] {
            let axis = Axis(values)
            #expect(axis.range.lowerBound < axis.range.upperBound, "\(values)")
            #expect(axis.ticks.count < 30, "\(values)")
            for value in values where value.isFinite { #expect((0...1).contains(axis.position(value)), "\(value)") }
        }
    }

    @Test("Logarithmic axes tick at powers of ten, and at 2 and 5 between few of them")
    func logarithmicAxes() {
        let short = Axis([0.03, 4], scale: .logarithmic)
        #expect(short.ticks.map(NumberText.short) == ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2", "5"])
        #expect(short.position(0.02) == 0 && short.position(5) == 1)
        let long = Axis([0.0003, 400], scale: .logarithmic)
        #expect(long.ticks.map(NumberText.short) == ["0.0001", "0.001", "0.01", "0.1", "1", "10", "100", "1,000"])
    }

    @Test("Smoothing begins at the first value and forgets it")
    func smoothing() {
        let series = Series("x", [(1, 4), (2, 2), (3, 2)]).smoothed("y", span: 2)
        #expect(series.name == "y")
        #expect(series.values == [4, (0.5 * 2 + 0.25 * 4) / 0.75, (0.5 * 2 + 0.25 * 2 + 0.125 * 4) / 0.875])
    }

    @Test("Many points become means; what is not finite is left out")
    func binning() {
        let series = Series("x", (1...10).map { ($0, $0 == 10 ? .nan : Double($0)) })
        #expect(series.steps.count == 9)
        let binned = series.binned(to: 4)
        #expect(binned.steps == [3, 6, 9])
        #expect(binned.values == [2, 5, 8])
        #expect(series.binned(to: 9).values == series.values)
    }

    @Test("Bins of a histogram are of a round width and hold every value")
    func histogram() {
        let lengths = Histogram([(3, 2), (8, 1), (210, 1)])
        #expect(lengths.width == 10 && lengths.start == 0)
        #expect(lengths.counts.count == 22 && lengths.counts.reduce(0, +) == 4)
        #expect(lengths.counts[0] == 3 && lengths.counts[21] == 1)
        #expect(lengths.label(21) == "210 – 219")
        let one = Histogram([(7, 1)])
        #expect(one.counts == [1] && one.label(0) == "7")
        #expect(Histogram([]).counts.isEmpty)
        #expect(Histogram([(0, 1), (1_000_000_000, 1)]).counts.count <= 41)
    }

    @Test("A heat map's rows stay apart where cells are empty")
    func emptyCells() {
        let map = HeatMap(
            id: "x", title: "x", caption: "", rows: ["a", "b"], columns: ["0", "1", "2"],
            values: [[nil, nil, 0.5], [0.25, nil, nil]], columnTicks: [])
        #expect(map.figure.source.contains("data-values=\"||0.5;0.25||\""))
        #expect(ReportPage.script.source.contains(#"values.split(";").map(row => row.split("|"))"#))
    }

    @Test("A command line comes back from a shell as it was")
    func command() throws {
        let words = ["lora", "train", "--data", "it's; rm -rf $HOME `x` \"\\", "--output", "ä\nb", "", "~", "--json"]
        let text = ShellCommand.text(words)
        #expect(text.hasPrefix("lora train \\\n    --data '"))
        let shell = Process()
        shell.executableURL = URL(filePath: "/bin/sh")
        shell.arguments = ["-c", "lora() { printf '%s\\0' lora \"$@\"; }; " + text]
        let pipe = Pipe()
        shell.standardOutput = pipe
        try shell.run()
        let output = try #require(try pipe.fileHandleForReading.readToEnd())
        shell.waitUntilExit()
        #expect(
            output.split(separator: 0, omittingEmptySubsequences: false).dropLast()
                .map { String(decoding: $0, as: UTF8.self) } == words)
    }

    @Test("The template's lines around all prompts are left out, those of a prompt are kept")
    func frame() {
        let prompts = [
            "system\nBe brief.\nuser\nturn on\nthe light?\nassistant\n",
            "system\nBe brief.\nuser\nturn on?\nassistant\n",
        ]
        #expect(AnswerComparison.withoutFrame(prompts) == ["turn on\nthe light?", "turn on?"])
        #expect(AnswerComparison.withoutFrame(["a\nb"]) == ["a\nb"])
        #expect(AnswerComparison.withoutFrame(["a\nb", "a\nb"]).count == 2)
        #expect(AnswerComparison.withoutFrame(["x", "y\nz", ""]) == ["x", "y\nz", ""])
        #expect(AnswerComparison.withoutFrame(["same\none", "same\none\nmore"]).allSatisfy { !$0.isEmpty })
    }
}
