public import Metrics
import OrderedCollections
import Synchronization

/// Keeps what swift-metrics is told and writes it in Prometheus' text format.
///
/// Labels are metric names as Prometheus has them; timers are histograms in seconds.
public final class PrometheusExporter: MetricsFactory {
    /// A metric with its dimensions.
    private struct Key: Hashable {
        let name: String
        let labels: String
    }

    /// More series than that are counted nowhere: a mistake must not eat the memory.
    private static let mostSeries = 10_000

    private let series = Mutex<[Key: any PrometheusSeries]>([:])

    public init() {}

    // MARK: Series

    private func make<Series: PrometheusSeries>(
        _ label: String, _ dimensions: [(String, String)], _ new: () -> Series
    ) -> Series {
        let key = Key(name: Self.metricName(label), labels: Self.labels(dimensions))
        return series.withLock { series in
            if let known = series[key] as? Series { return known }
            let made = new()
            if series.count < Self.mostSeries, series[key] == nil { series[key] = made }
            return made
        }
    }

    private func remove(_ handler: AnyObject) {
        series.withLock { series in
            guard let key = series.first(where: { $0.value === handler })?.key else { return }
            series[key] = nil
        }
    }

    public func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        make(label, dimensions) { CounterSeries() }
    }

    public func makeFloatingPointCounter(
        label: String, dimensions: [(String, String)]
    ) -> any FloatingPointCounterHandler {
        make(label, dimensions) { CounterSeries() }
    }

    public func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        make(label, dimensions) { GaugeSeries() }
    }

    public func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
        aggregate
            ? make(label, dimensions) { HistogramSeries(bounds: Buckets.bounds(of: label)) }
            : make(label, dimensions) { GaugeSeries() }
    }

    public func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        make(label, dimensions) { HistogramSeries(bounds: Buckets.bounds(of: label)) }
    }

    public func destroyCounter(_ handler: any CounterHandler) { remove(handler) }
    public func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) { remove(handler) }
    public func destroyMeter(_ handler: any MeterHandler) { remove(handler) }
    public func destroyRecorder(_ handler: any RecorderHandler) { remove(handler) }
    public func destroyTimer(_ handler: any TimerHandler) { remove(handler) }

    // MARK: Text

    /// All series, by name. `help` has what each metric is.
    func text(help: [String: String] = [:]) -> String {
        let all = series.withLock { $0.sorted { ($0.key.name, $0.key.labels) < ($1.key.name, $1.key.labels) } }
        var lines: [String] = []
        var name: String?
        for (key, series) in all {
            if name != key.name {
                name = key.name
                if let help = help[key.name] { lines.append("# HELP \(key.name) \(help)") }
                lines.append("# TYPE \(key.name) \(series.type)")
            }
            lines += series.lines(name: key.name, labels: key.labels)
        }
        return lines.map { $0 + "\n" }.joined()
    }

    private static func metricName(_ label: String) -> String {
        String(label.map { $0.isASCII && ($0.isLetter || $0.isNumber || "_:".contains($0)) ? $0 : "_" })
    }

    /// `name="value",…`; empty for none.
    static func labels(_ dimensions: [(String, String)]) -> String {
        dimensions.map { "\(metricName($0.0))=\"\(escaped($0.1))\"" }.joined(separator: ",")
    }

    private static func escaped(_ value: String) -> String {
        value.unicodeScalars.map { scalar in
            switch scalar {
            case "\\": "\\\\"
            case "\"": "\\\""
            case "\n": "\\n"
            default: String(Character(scalar))
            }
        }.joined()
    }
}

/// Upper bounds of histograms' buckets, in seconds, as vLLM steps them.
enum Buckets {
    static func bounds(of label: String) -> [Double] {
        switch label {
        case "vllm:inter_token_latency_seconds":
            [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10]
        case "vllm:e2e_request_latency_seconds":
            [0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960]
        default:
            [
                0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160,
            ]
        }
    }
}
