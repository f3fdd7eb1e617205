import LoRAFormats
import LoRAModel
import LoRAServing
import LoRAText
import LoRATraining

/// Measures what clients of a whole engine wait for: each asks again as soon as it has its answer, so that prompts are read
/// beside answers under way.
struct TrafficWorker {
    let workload: Workload
    let base: String
    let clients: Int
    let threads: Int
    /// After the first one.
    let steps: Int

    /// Requests that a client sends in a step, one after the other; tokens of a prompt, all of which are its own, and of an
    /// answer.
    static let (requests, promptLength, answerLength) = (3, 128, 64)

    func run() async throws -> Measurement {
        let model = try BaseModel(path: base)
        let tokenizer = try Tokenizer(gguf: model.file)
        let pool = ThreadPool(count: threads)
        let engine = try InferenceEngine(
            model: model, tokenizer: tokenizer, pool: pool, compute: workload.compute,
            limits: .init(positions: Self.promptLength + Self.answerLength))
        var (waits, seconds) = (Measurement.Waits(), [Double]())
        for step in 0...steps {
            let begin = ContinuousClock.now
            let rounds = try await withThrowingTaskGroup(of: Measurement.Waits.self) { group in
                for client in 0..<clients {
                    group.addTask { try await ask(engine, model, tokenizer, seed: UInt64(step * clients + client)) }
                }
                return try await group.reduce(into: [Measurement.Waits]()) { $0.append($1) }
            }
            seconds.append((ContinuousClock.now - begin) / .seconds(1))
            guard step > 0 else { continue }
            for round in rounds {
                waits.firstTexts += round.firstTexts
                waits.gaps += round.gaps
            }
        }
        await engine.drain(timeout: .seconds(1))
        return Measurement(
            workload: workload.name, isServing: true, engine: workload.compute.rawValue, threads: threads,
            recomputes: false,
            steps: seconds.map {
                .init(tokens: workload.servedTokens ?? 0, seconds: $0, forward: 0, loss: 0, backward: 0)
            },
            dataSeconds: nil, secondsToFirstStep: nil, secondsToFirstStepEnd: nil,
            peakResidentBytes: TrainingRun.peakResidentBytes, gigaflopsPerToken: nil, waits: waits)
    }

    private func ask(
        _ engine: InferenceEngine, _ model: BaseModel, _ tokenizer: Tokenizer, seed: UInt64
    ) async throws -> Measurement.Waits {
        var random = SplitMix64(seed: seed)
        var waits = Measurement.Waits()
        // Answers end at their length alone.
        let ends = Dictionary(uniqueKeysWithValues: tokenizer.endIDs.map { ($0, Float(-100)) })
        for _ in 0..<Self.requests {
            let prompt = (0..<Self.promptLength).map { _ in
                Int32(random.next(below: model.configuration.vocabularySize))
            }
            let request = GenerationRequest(
                prompt: prompt, maximumTokens: Self.answerLength,
                sampling: .init(temperature: 1, logitBias: ends, seed: seed))
            var last = ContinuousClock.now
            var isFirst = true
            for try await event in try engine.generate(request) {
                guard case .text = event else { continue }
                let (now, before) = (ContinuousClock.now, last)
                last = now
                if isFirst {
                    waits.firstTexts.append((now - before) / .seconds(1))
                } else {
                    waits.gaps.append((now - before) / .seconds(1))
                }
                isFirst = false
            }
        }
        return waits
    }
}
