import Foundation
import Metrics

/// What the server counts and measures of requests, under vLLM's names where the meaning is the same.
struct ServingMetrics: Sendable {
    private let exporter: PrometheusExporter
    private let running: Meter
    private let waiting: Meter
    let promptTokens: Counter
    let generationTokens: Counter
    let timeToFirstToken: Timer
    let interTokenLatency: Timer
    let requestLatency: Timer
    let queueTime: Timer
    /// Sequences that run at a time, and so adapters.
    private let sequences: Int

    init(exporter: PrometheusExporter, sequences: Int) {
        self.exporter = exporter
        self.sequences = sequences
        running = Meter(label: "vllm:num_requests_running", factory: exporter)
        waiting = Meter(label: "vllm:num_requests_waiting", factory: exporter)
        promptTokens = Counter(label: "vllm:prompt_tokens_total", factory: exporter)
        generationTokens = Counter(label: "vllm:generation_tokens_total", factory: exporter)
        timeToFirstToken = Timer(label: "vllm:time_to_first_token_seconds", factory: exporter)
        interTokenLatency = Timer(label: "vllm:inter_token_latency_seconds", factory: exporter)
        requestLatency = Timer(label: "vllm:e2e_request_latency_seconds", factory: exporter)
        queueTime = Timer(label: "vllm:request_queue_time_seconds", factory: exporter)
    }

    /// All metrics in Prometheus' text format. Adapters are named only when they are among `published`.
    func text(load: InferenceEngine.Load, published: [String]) -> String {
        running.set(load.running)
        waiting.set(load.waiting)
        let known = Set(published)
        let names = { (names: [String]) in Set(names).intersection(known).sorted().joined(separator: ",") }
        let info = "vllm:lora_requests_info"
        let labels = PrometheusExporter.labels([
            ("max_lora", String(sequences)), ("running_lora_adapters", names(load.runningAdapters)),
            ("waiting_lora_adapters", names(load.waitingAdapters)),
        ])
        let now = Date().timeIntervalSince1970
        return exporter.text(help: Self.help)
            + Self.family("vllm:num_preemptions_total", "counter", "", Double(load.pauses))
            + Self.family(info, "gauge", labels, now)
    }

    private static func family(_ name: String, _ kind: String, _ labels: String, _ value: Double) -> String {
        "# HELP \(name) \(help[name] ?? "")\n# TYPE \(name) \(kind)\n" + Sample.line(name, labels, value) + "\n"
    }

    private static let help = [
        "vllm:num_requests_running": "Requests that are being computed.",
        "vllm:num_requests_waiting": "Requests that wait for a place.",
        "vllm:prompt_tokens_total": "Tokens of prompts.",
        "vllm:generation_tokens_total": "Tokens of answers.",
        "vllm:time_to_first_token_seconds": "Time from a request's arrival to its answer's first text.",
        "vllm:inter_token_latency_seconds": "Time between two pieces of an answer.",
        "vllm:e2e_request_latency_seconds": "Time from a request's arrival to its answer's end.",
        "vllm:request_queue_time_seconds": "Time that a request waited for a place.",
        "vllm:num_preemptions_total": "Answers that gave up their memory for older ones, to be read again.",
        "vllm:lora_requests_info": "Adapters of running and waiting requests; the value is the time of the reading.",
        "lora_adapter_load_seconds": "Time to read and check an adapter.",
        "lora_adapter_swaps_total": "Adapters whose version was replaced.",
        "lora_adapter_load_failures_total": "Adapter files that could not be used.",
        "lora_adapter_resident_bytes": "Memory that adapters' matrices take.",
    ]
}
