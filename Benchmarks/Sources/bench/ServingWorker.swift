import CCeilings
import LoRAFormats
import LoRAModel
import LoRATraining

/// Measures the passes of a server, without what chooses tokens and requests around them.
struct ServingWorker {
    let workload: Workload
    let base: String
    let threads: Int
    /// After the first one.
    let steps: Int

    /// Tokens that a decoding sequence begins with, and that each gets in a step.
    static let (promptLength, stepLength) = (64, 32)
    /// Memory that is read between the steps of decoding, far more than the caches hold.
    private static let readBytes = 256 << 20

    func run() throws -> Measurement {
        let model = try BaseModel(path: base)
        let pool = ThreadPool(count: threads)
        defer { pool.shutdown() }
        let passes: [Pass]
        switch workload.data {
        case .decode(let streams, let adapters): passes = try decode(model, pool, streams, adapters: adapters)
        case .prefill(let length): passes = try prefill(model, pool, length)
        case .random, .rows, .traffic: preconditionFailure("\(workload.name) is no pass of serving")
        }
        let tokens = workload.servedTokens ?? 0
        let isDecoding = passes.contains { $0.readBandwidth != nil }
        return Measurement(
            workload: workload.name, isServing: true, engine: workload.compute.rawValue, threads: threads,
            recomputes: false,
            steps: passes.map {
                .init(
                    tokens: tokens, seconds: $0.seconds, forward: $0.seconds, loss: 0, backward: 0,
                    readBandwidth: $0.readBandwidth)
            },
            dataSeconds: nil, secondsToFirstStep: nil, secondsToFirstStepEnd: nil,
            peakResidentBytes: TrainingRun.peakResidentBytes - (isDecoding ? Self.readBytes : 0),
            gigaflopsPerToken: gigaflopsPerToken(model),
            gigabytesPerToken: gigabytesPerToken(model))
    }

    private struct Pass {
        let seconds: Double
        /// GB/s at which the base could be read just before and after.
        var readBandwidth: Double?
    }

    /// Each step: `stepLength` passes of one token of each of `streams` after the prompts, logits included.
    private func decode(_ model: BaseModel, _ pool: ThreadPool, _ streams: Int, adapters count: Int) throws -> [Pass] {
        let positions = Self.promptLength + Self.stepLength
        let pass = try InferencePass(
            model: model, pool: pool, compute: workload.compute, capacity: max(streams, Self.promptLength),
            positions: positions)
        let adapters = (0..<count).map { adapter(model, seed: UInt64($0)) }
        var random = SplitMix64(seed: 1)
        let token = { Int32(random.next(below: model.configuration.vocabularySize)) }
        let sequences = (0..<streams).map { stream in
            (
                cache: KeyValueCache(configuration: model.configuration),
                adapter: adapters.isEmpty ? nil : adapters[stream % adapters.count]
            )
        }
        for (cache, adapter) in sequences {
            let prompt = (0..<Self.promptLength).map { _ in token() }
            pass.run([.init(cache: cache, tokens: prompt, adapter: adapter, wanted: .none)]) { _, _, _ in }
        }
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.readBytes, alignment: 64)
        defer { memory.deallocate() }
        memory.initializeMemory(as: UInt8.self, repeating: 1)
        var before = readBandwidth(memory)
        return (0...steps).map { _ in
            for sequence in sequences { sequence.cache.truncate(to: Self.promptLength) }
            let seconds = seconds {
                for _ in 0..<Self.stepLength {
                    let chunks = sequences.map {
                        InferencePass.Chunk(cache: $0.cache, tokens: [token()], adapter: $0.adapter, wanted: .last)
                    }
                    pass.run(chunks, by: .stored) { _, _, _ in }
                }
            }
            let after = readBandwidth(memory)
            defer { before = after }
            return Pass(seconds: seconds, readBandwidth: (before + after) / 2)
        }
    }

    /// GB/s at which as many threads read memory right now: what it gives changes within seconds.
    private func readBandwidth(_ memory: UnsafeMutableRawBufferPointer) -> Double {
        ceiling_read_again(memory.baseAddress, memory.count, threads, 0.05)
    }

    /// Each pass over `length` tokens, up to the logits of the last.
    private func prefill(_ model: BaseModel, _ pool: ThreadPool, _ length: Int) throws -> [Pass] {
        let pass = try InferencePass(
            model: model, pool: pool, compute: workload.compute, capacity: length, positions: length)
        var random = SplitMix64(seed: 1)
        let prompt = (0..<length).map { _ in Int32(random.next(below: model.configuration.vocabularySize)) }
        // A server uses the pages of a cache again.
        let cache = KeyValueCache(configuration: model.configuration)
        return (0...steps).map { _ in
            cache.truncate(to: 0)
            return Pass(
                seconds: seconds {
                    pass.run([.init(cache: cache, tokens: prompt, adapter: nil, wanted: .last)]) { _, _, _ in }
                })
        }
    }

    private func seconds(_ body: () -> Void) -> Double {
        let begin = ContinuousClock.now
        body()
        return (ContinuousClock.now - begin) / .seconds(1)
    }

    /// An adapter of the workload's rank and targets, A and B random, as one from a file in bf16.
    private func adapter(_ model: BaseModel, seed: UInt64) -> PackedAdapter {
        let layout = AdapterLayout(configuration: model.configuration) { _, target in
            workload.targets.modules.contains(target) ? (workload.rank, 2) : nil
        }
        let adapter = AdapterParameters(layout: layout)
        adapter.initialize(seed: seed)
        var random = SplitMix64(seed: seed)
        for pair in layout.pairs {
            for index in pair.offsetB..<pair.offsetB + pair.countB {
                adapter.values[index] = (random.nextUnit() - 0.5) * 0.02
            }
        }
        for index in 0..<layout.parameterCount {
            let bits = adapter.values[index].bitPattern & 0xFFFF_0000
            adapter.values[index] = Float(bitPattern: bits)
        }
        return PackedAdapter(adapter)
    }

    /// Of prefill, whose limit is arithmetic.
    private func gigaflopsPerToken(_ model: BaseModel) -> Double? {
        guard case .prefill(let length) = workload.data else { return nil }
        return Floor(model.configuration).prefillGigaflops(length) / Double(length)
    }

    /// Of the weights that decoding reads: all, once for all streams. An embedding that is not the head too is but
    /// looked up.
    private func gigabytesPerToken(_ model: BaseModel) -> Double? {
        guard case .decode(let streams, _) = workload.data else { return nil }
        let isTied = model.file.tensor(named: "output.weight") == nil
        let read = model.file.tensors.filter { isTied || $0.name != "token_embd.weight" }
        return Double(read.reduce(0) { $0 + $1.byteCount }) / Double(streams) * 1e-9
    }
}
