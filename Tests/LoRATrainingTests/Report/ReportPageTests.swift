import OrderedCollections
import Testing

@testable import LoRAModel
@testable import LoRATraining

@Suite("Page of a report")
struct ReportPageTests {
    private static func summary(steps: Int, isValidated: Bool = true) -> TrainingSummary {
        TrainingSummary(
            adapterPath: "adapters/x.lora", adapterBytes: 2_000_000, steps: steps, keptStep: max(steps - 1, 0),
            tokens: 1234, supervisedTokens: 567, seconds: 65, peakResidentBytes: 700_000_000,
            losses: (0..<steps).map { 4 / Double($0 + 1) }, validationLoss: isValidated ? 0.5 : nil,
            bestValidationLoss: isValidated ? 0.5 : nil)
    }

    private static func content(
        _ text: String = "plain", history: [RunEvent], steps: Int = 30, isValidated: Bool = true,
        answers: [AnswerComparison]? = nil
    ) -> ReportContent {
        let changes = (0..<2).flatMap { block in
            [TargetModule.queryProjection, .downProjection].map {
                ModuleChange(block: block, target: $0, baseNorm: 10, changeNorm: Double(block + 1))
            }
        }
        return ReportContent(
            domain: text, baseName: text, command: text,
            summary: summary(steps: steps, isValidated: isValidated), parameterCount: 1000, history: history,
            changes: changes, data: [],
            answers: answers ?? [
                AnswerComparison(line: 3, prompt: text, expected: text, base: "no", adapter: text)
            ],
            options: [(name: text, value: text)])
    }

    private static let history = (1...30).flatMap { step -> [RunEvent] in
        let metrics: OrderedDictionary<String, Double> = ["rewards/margins": Double(step)]
        let record = ReportRecords.step(step, loss: 4 / Double(step), metrics: metrics)
        return step % 10 == 0 ? [record, ReportRecords.evaluation(step, loss: 1 / Double(step))] : [record]
    }

    private func page(_ content: ReportContent) -> String { ReportPage(content: content).html.source }

    @Test("It has a chart for everything that was recorded, each with a name, a description and a table")
    func charts() {
        let page = page(Self.content(history: Self.history))
        for id in [
            "loss", "grad-norm", "learning-rate", "block-gradients", "change-map", "speed", "memory", "metric-0",
        ] {
            #expect(page.contains("<h3 id=\"\(id)\">"), "\(id)")
            #expect(page.contains("aria-labelledby=\"\(id)\" aria-describedby=\"\(id)-caption\""), "\(id)")
        }
        #expect(page.count(of: "role=\"img\"") == 8)
        #expect(page.count(of: "<summary>Numbers") == 8)
        #expect(page.contains("The adapter of step 29, which validated best, was kept."))
        #expect(page.contains("data-name=\"validation\""))
        #expect(page.contains("✓ exact"))
    }

    @Test("Text of data, answers, options and paths cannot become markup")
    func hostile() {
        let text = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>]]>--><style>"
        let (calm, hostile) = (
            page(Self.content(history: Self.history)), page(Self.content(text, history: Self.history))
        )
        for part in ["<script", "<style", "<img", "onerror=alert(1)>", "</title"] {
            #expect(hostile.count(of: part) == calm.count(of: part), "\(part)")
        }
        #expect(hostile.contains("&quot;&#39;&gt;&lt;script&gt;"))
    }

    @Test("It fetches nothing, and its policy allows its own style and script alone")
    func selfContained() {
        let page = page(Self.content(history: Self.history))
        for part in ["http://", "https://", "src=", "@import", "url("] { #expect(!page.contains(part), "\(part)") }
        #expect(page.contains("content=\"default-src &#39;none&#39;; style-src &#39;sha256-"))
    }

    @Test("Runs of nothing, of one step, without validation and with losses that are not finite have a page too")
    func extremes() {
        let odd = [ReportRecords.step(1, loss: .nan, blocks: [.nan, .infinity])]
        for history in [[], [ReportRecords.step(1)], odd] {
            let page = page(Self.content(history: history, steps: history.count, isValidated: false, answers: []))
            #expect(page.contains("no validation data") && !page.contains("nan") && !page.contains("inf\""))
        }
    }

    @Test("A long run makes no long page: means stand for many steps")
    func long() {
        let history = (1...20_000).map { ReportRecords.step($0, blocks: [Double](repeating: 1, count: 30)) }
        let page = page(Self.content(history: history))
        #expect(page.utf8.count < 500_000, "\(page.utf8.count) bytes")
        #expect(page.contains("By step, the mean of 286 steps."))
    }
}

extension String {
    fileprivate func count(of part: String) -> Int { ranges(of: part).count }
}
