import CoreMetrics
import Foundation
import Hummingbird
import Logging
import LoRAFormats
import LoRAModel
import Metrics
import Synchronization

/// The answers to one request, from the engine's queue to the last token.
///
/// Whatever becomes of it, the key's admission ends with it: also when nobody ever reads the reply.
final class Generation: Sendable {
    let request: CompletionRequest
    let reply: ReplyFormat
    let prompts: [EncodedPrompt]
    private let call: Call
    private let adapter: AdapterSnapshot?
    private let admission: Admission
    private let merged: MergedEvents
    private let counts: Mutex<Counts>

    /// What happened so far.
    private struct Counts {
        var answers: [Answer]
        var firstText: ContinuousClock.Instant?
        var outcome = "cancelled"
        var isFinished = false

        struct Answer {
            var cachedTokens = 0
            /// Generated tokens; until the answer's end, the pieces of text that came.
            var tokens = 0
            var finish: FinishReason?
            var started: ContinuousClock.Instant?
            var lastText: ContinuousClock.Instant?
        }
    }

    /// Puts the request's answers into the engine's queue.
    /// - Throws: 429 or 503 when the engine takes no more.
    init(
        _ call: Call, _ request: CompletionRequest, adapter: AdapterSnapshot?, prompts: [EncodedPrompt],
        encoder: PromptEncoder, admission: Admission
    ) throws(APIError) {
        self.call = call
        self.request = request
        self.adapter = adapter
        self.prompts = prompts
        self.admission = admission
        reply = ReplyFormat(request: request, fingerprint: call.serving.fingerprint(adapter))
        counts = Mutex(Counts(answers: Array(repeating: .init(), count: prompts.count * request.choices)))
        do throws(InferenceEngine.Refusal) {
            var streams: [AsyncThrowingStream<GenerationEvent, any Error>] = []
            for prompt in prompts {
                for choice in 0..<request.choices {
                    let maximum = encoder.maximumTokens(prompt, request)
                    streams.append(
                        try call.serving.engine.generate(
                            request.generation(
                                of: prompt, choice: choice, maximumTokens: maximum, adapter: adapter,
                                tenant: call.key?.id ?? "")))
                }
            }
            merged = MergedEvents(streams)
        } catch {
            throw APIError(error)
        }
        if let adapter { call.serving.countRequest(adapter: adapter.name) }
        call.serving.metrics.promptTokens.increment(by: promptTokens)
    }

    deinit { finish() }

    private var promptTokens: Int { prompts.reduce(0) { $0 + $1.ids.count } }

    /// Tokens so far.
    var usage: Usage {
        counts.withLock { counts in
            // A prompt counts once, whatever the number of its answers.
            let firsts = stride(from: 0, to: counts.answers.count, by: request.choices)
            return Usage(
                prompt: promptTokens, completion: counts.answers.reduce(0) { $0 + $1.tokens },
                cached: firsts.reduce(0) { $0 + counts.answers[$1].cachedTokens })
        }
    }

    // MARK: Events

    /// Hands every event to `receive` as it comes.
    /// - Throws: what the engine or `receive` throws, `CancellationError` when the client goes away.
    func run(_ receive: (Int, GenerationEvent) async throws -> Void) async throws {
        call.connection?.whenGone { [merged] in merged.cancel() }
        defer {
            call.connection?.forgetAction()
            merged.cancel()
        }
        do {
            for try await (answer, event) in merged.events {
                note(event, of: answer)
                try await receive(answer, event)
            }
            try Task.checkCancellation()
            guard counts.withLock({ $0.answers.allSatisfy { $0.finish != nil } }) else { throw APIError.draining }
            counts.withLock { $0.outcome = "completed" }
            call.serving.metrics.requestLatency.record(duration: call.start.duration(to: .now))
        } catch {
            throw translated(error)
        }
    }

    private func translated(_ error: any Error) -> any Error {
        guard let refusal = error as? InferenceEngine.Refusal else { return error }
        counts.withLock { $0.outcome = "failed" }
        if case .failed(let reason) = refusal {
            call.logger.critical("engine failed", metadata: ["reason": "\(reason)"])
        }
        return APIError(refusal)
    }

    private func note(_ event: GenerationEvent, of answer: Int) {
        let metrics = call.serving.metrics
        let now = ContinuousClock.now
        counts.withLock { counts in
            switch event {
            case .started(let cached):
                counts.answers[answer].cachedTokens = cached
                counts.answers[answer].started = now
                metrics.queueTime.record(duration: call.start.duration(to: now))
            case .prompt: break
            case .text:
                if let last = counts.answers[answer].lastText {
                    metrics.interTokenLatency.record(duration: last.duration(to: now))
                }
                if counts.firstText == nil {
                    counts.firstText = now
                    metrics.timeToFirstToken.record(duration: call.start.duration(to: now))
                }
                counts.answers[answer].lastText = now
                counts.answers[answer].tokens += 1
            case .finished(let reason, let tokens):
                counts.answers[answer].finish = reason
                counts.answers[answer].tokens = tokens
            }
        }
    }

    // MARK: End

    /// Ends the admission and says what became of the request. It comes before the reply's last bytes, so that a client
    /// that has them may send its next request.
    func finish() {
        let isFirst = counts.withLock { counts in
            defer { counts.isFinished = true }
            return !counts.isFinished
        }
        guard isFirst else { return }
        let usage = usage
        admission.finish(tokens: usage.prompt + usage.completion)
        call.serving.metrics.generationTokens.increment(by: usage.completion)
        let (outcome, started, first) = counts.withLock { ($0.outcome, $0.answers.first?.started, $0.firstText) }
        var metadata: Logger.Metadata = [
            "adapter": "\(adapter?.name ?? "")", "version": "\(adapter?.digest.prefix(12) ?? "")",
            "answers": .stringConvertible(prompts.count * request.choices),
            "prompt_tokens": .stringConvertible(usage.prompt), "cached_tokens": .stringConvertible(usage.cached),
            "completion_tokens": .stringConvertible(usage.completion), "stream": "\(request.streams)",
            "seconds": .stringConvertible(Self.seconds(call.start, .now)),
        ]
        if let started { metadata["queue_seconds"] = .stringConvertible(Self.seconds(call.start, started)) }
        if let first { metadata["first_token_seconds"] = .stringConvertible(Self.seconds(call.start, first)) }
        call.logger.info("\(outcome)", metadata: metadata)
    }

    /// To the microsecond.
    private static func seconds(_ start: ContinuousClock.Instant, _ end: ContinuousClock.Instant) -> Double {
        (start.duration(to: end) / .microseconds(1)).rounded() / 1e6
    }
}

extension CompletionRequest {
    /// The engine's request for one answer. Answers to one prompt differ by their seeds.
    fileprivate func generation(
        of prompt: EncodedPrompt, choice: Int, maximumTokens: Int, adapter: AdapterSnapshot?, tenant: String
    ) -> GenerationRequest {
        var sampling = sampling
        sampling.seed = seed.map { $0 &+ UInt64(choice) } ?? .random(in: 0 ... .max)
        return GenerationRequest(
            prompt: prompt.ids, adapter: adapter, tenant: tenant, maximumTokens: maximumTokens, sampling: sampling,
            stops: stops, alternatives: alternatives, scoresPrompt: echoes && alternatives != nil)
    }
}
