import Foundation
import LoRAFormats
import Logging
import MetricsTestKit
import Synchronization
import Testing

@testable import LoRAModel
@testable import LoRAServing

/// A directory of adapters for a base of two small blocks, and a store on it.
final class AdapterFixture: Sendable {
    let directory: String
    let metrics = TestMetrics()
    let log = LogRecorder()

    init() throws {
        directory = FileManager.default.temporaryDirectory.appending(path: "adapters-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: directory) }

    /// - Parameter interval: between looks through the directory; an hour stands for never.
    func store(
        base: BaseModel? = nil, maximumBytes: Int = 0, interval: Duration = .seconds(3600)
    ) throws -> AdapterStore {
        try AdapterStore(
            directory: directory, base: try base ?? TinyServingBase.shared.get(), maximumBytes: maximumBytes,
            logger: Logger(label: "test") { _ in LogRecorder.Handler(recorder: self.log) }, metrics: metrics,
            interval: interval)
    }

    func path(_ file: String) -> String { "\(directory)/\(file)" }

    /// Puts an adapter into the directory by rename, as the program writes them.
    func write(_ version: AdapterVersion, _ file: String) throws {
        try AtomicFile.write(try version.bytes(), to: path(file))
    }

    /// Writes over a file without a rename.
    func overwrite(_ bytes: [UInt8], _ file: String) throws {
        let handle = try #require(fopen(path(file), "w"))
        defer { fclose(handle) }
        #expect(fwrite(bytes, 1, bytes.count, handle) == bytes.count)
    }

    func remove(_ file: String) throws { try FileManager.default.removeItem(atPath: path(file)) }

    /// Files that were read to be loaded.
    var loads: Int { (try? metrics.expectTimer("lora_adapter_load_seconds"))?.values.count ?? 0 }

    /// What the gauge of memory says.
    var residentBytes: Double? { (try? metrics.expectGauge("lora_adapter_resident_bytes"))?.lastValue }

    func counter(_ label: String, _ adapter: String? = nil) -> Int64 {
        let dimensions = adapter.map { [("adapter", $0)] } ?? []
        return (try? metrics.expectCounter(label, dimensions))?.totalValue ?? 0
    }
}

/// A version of an adapter that can be told from others by what it holds.
struct AdapterVersion {
    /// All matrices hold it, but for the first number.
    var value: Float
    var rank = 2
    var targets = ["q_proj", "v_proj"]
    var decomposesWeights = false
    /// nil when it was trained elsewhere.
    var fingerprint: String? = try? BaseFingerprint.fingerprint(of: TinyServingBase.shared.get().file)

    init(_ value: Float) { self.value = value }

    var configuration: AdapterConfiguration {
        AdapterConfiguration(
            rank: rank, alpha: 4, targetModules: .names(targets), decomposesWeights: decomposesWeights,
            baseModel: "tiny")
    }

    private func parameters() throws -> AdapterParameters {
        let base = try TinyServingBase.shared.get()
        let layout = AdapterLayout(
            configuration: base.configuration, matcher: try AdapterModuleMatcher(configuration))
        let parameters = AdapterParameters(layout: layout)
        for index in 0..<layout.parameterCount { parameters.values[index] = value }
        // No number of bf16, so that every version takes as much memory.
        parameters.values[0] = 1 / 3
        return parameters
    }

    func file() throws -> AdapterFile {
        let record = AdapterRecord(
            domain: "test", baseFingerprint: fingerprint, rank: rank, alpha: 4, targets: targets)
        return try AdapterFile(
            configuration: configuration, record: record,
            tensors: try parameters().tensors(configuration: TinyServingBase.shared.get().configuration, type: .f32))
    }

    func bytes() throws -> [UInt8] { try file().serialized() }

    /// Bytes in memory.
    func residentBytes() throws -> Int { PackedAdapter(try parameters()).byteCount }
}

extension AdapterSnapshot {
    /// The value that all matrices hold but for the first number; nil when they hold several.
    var value: Float? {
        let values = UnsafeBufferPointer(
            start: parameters.elements.assumingMemoryBound(to: Float.self), count: parameters.layout.parameterCount)
        return values.dropFirst().allSatisfy { $0 == values[1] } ? values[1] : nil
    }
}

/// A `llama` base: C = 32, H = 2, K = 1, D = 16, F = 64, V = 40.
struct TinyServingBase {
    static let shared = Result { try TinyServingBase(seed: 1).make() }

    let seed: UInt64

    /// The base of a file that is gone as soon as it is mapped.
    func make() throws -> BaseModel {
        let path = FileManager.default.temporaryDirectory.appending(path: "base-\(UUID().uuidString).gguf").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        try write(to: path)
        let base = try BaseModel(path: path)
        // Kept beside the file, which shall go as well.
        _ = BaseFingerprint.fingerprint(of: base.file)
        try? FileManager.default.removeItem(atPath: path + ".fingerprint")
        return base
    }

    func write(to path: String) throws {
        var writer = GGUFWriter()
        try writer.add("general.architecture", .string("llama"))
        for (key, value) in [
            ("block_count", 2), ("context_length", 64), ("embedding_length", 32), ("feed_forward_length", 64),
            ("attention.head_count", 2), ("attention.head_count_kv", 1), ("rope.dimension_count", 16),
        ] {
            try writer.add("llama.\(key)", .uint32(UInt32(value)))
        }
        try writer.add("llama.rope.freq_base", .float32(10_000))
        try writer.add("llama.attention.layer_norm_rms_epsilon", .float32(1e-5))
        var state = seed
        func add(_ name: String, _ shape: [Int]) throws {
            let bytes = (0..<shape.reduce(1, *)).flatMap { _ -> [UInt8] in
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                let value = Float(state >> 40) / Float(1 << 23) - 1
                return withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) }
            }
            try writer.addTensor(name + ".weight", type: .f32, shape: shape, bytes: bytes)
        }
        try add("token_embd", [40, 32])
        try add("output_norm", [32])
        for block in 0..<2 {
            for (name, shape) in [
                ("attn_norm", [32]), ("attn_q", [32, 32]), ("attn_k", [16, 32]), ("attn_v", [16, 32]),
                ("attn_output", [32, 32]), ("ffn_norm", [32]), ("ffn_gate", [64, 32]), ("ffn_up", [64, 32]),
                ("ffn_down", [32, 64]),
            ] {
                try add("blk.\(block).\(name)", shape)
            }
        }
        try writer.write(to: path)
    }
}

/// What a store logs.
final class LogRecorder: Sendable {
    private let lines = Mutex<[String]>([])

    /// Each with its metadata.
    var text: String { lines.withLock { $0.joined(separator: "\n") } }

    func count(_ part: String) -> Int { lines.withLock { $0.count { $0.contains(part) } } }

    struct Handler: LogHandler {
        let recorder: LogRecorder
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.info

        init(recorder: LogRecorder) { self.recorder = recorder }

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            recorder.lines.withLock { $0.append("\(event.level) \(event.message) \(event.metadata ?? [:])") }
        }
    }
}

/// Waits until `condition` holds.
func eventually(
    _ what: String, sourceLocation: SourceLocation = #_sourceLocation,
    _ condition: () async throws -> Bool
) async rethrows {
    let deadline = ContinuousClock.now + .seconds(60)
    while try await !condition() {
        guard ContinuousClock.now < deadline else {
            Issue.record("never: \(what)", sourceLocation: sourceLocation)
            return
        }
        try? await Task.sleep(for: .milliseconds(2))
    }
}

/// The failure that `body` throws.
func failure(
    sourceLocation: SourceLocation = #_sourceLocation, _ body: () async throws(AdapterStore.Failure) -> Void
) async -> AdapterStore.Failure? {
    do throws(AdapterStore.Failure) {
        try await body()
        Issue.record("no failure", sourceLocation: sourceLocation)
        return nil
    } catch { return error }
}

extension AdapterStore {
    /// Why there is no snapshot of `name`.
    func refusal(
        _ name: String, sourceLocation: SourceLocation = #_sourceLocation
    ) async -> Failure? {
        await failure(sourceLocation: sourceLocation) { () throws(Failure) in _ = try await snapshot(named: name) }
    }

    func entry(_ name: String) -> Entry? { entries.first { $0.name == name } }
}
