import Metrics
import Synchronization

/// What the store tells about its work. Labels are names of adapters that are or were published, nothing a client says.
struct AdapterMetrics: Sendable {
    private let factory: any MetricsFactory
    private let loads: Metrics.Timer

    init(factory: any MetricsFactory) {
        self.factory = factory
        loads = Metrics.Timer(label: "lora_adapter_load_seconds", dimensions: [], factory: factory)
    }

    /// Reading, checking and preparing one file took `duration`.
    func loaded(in duration: Duration) {
        let (seconds, attoseconds) = duration.components
        loads.recordNanoseconds(seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
    }

    /// A new version of `name` took the place of another.
    func swapped(_ name: String) { counter("lora_adapter_swaps_total", adapter: name).increment() }

    /// A file could not be used.
    /// - Parameter name: of the published adapter that it is a version of; nil when there is none.
    func failed(_ name: String?) { counter("lora_adapter_load_failures_total", adapter: name).increment() }

    private func counter(_ label: String, adapter: String?) -> Counter {
        Counter(label: label, dimensions: adapter.map { [("adapter", $0)] } ?? [], factory: factory)
    }
}

/// The adapters that are in memory: those in service, and those that only running requests hold any more.
final class AdapterResidency: Sendable {
    private let state = Mutex<(bytes: Int, count: Int)>((0, 0))
    private let gauge: Gauge

    init(factory: any MetricsFactory) {
        gauge = Gauge(label: "lora_adapter_resident_bytes", dimensions: [], factory: factory)
        gauge.record(0)
    }

    /// Of all snapshots that live.
    var bytes: Int { state.withLock { $0.bytes } }
    /// Snapshots that live.
    var count: Int { state.withLock { $0.count } }

    func enter(bytes: Int) { change(bytes: bytes, count: 1) }
    func leave(bytes: Int) { change(bytes: -bytes, count: -1) }

    private func change(bytes: Int, count: Int) {
        // Inside the lock, so that the gauge ends at the last value.
        state.withLock {
            $0.bytes += bytes
            $0.count += count
            gauge.record($0.bytes)
        }
    }
}
