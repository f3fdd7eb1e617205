import LoRAFormats
import LoRAModel
import Synchronization

@testable import LoRAServing

/// An engine that answers what a test tells it to.
final class ScriptedEngine: GenerationSource {
    typealias Script = @Sendable (GenerationRequest) throws(InferenceEngine.Refusal) -> [GenerationEvent]

    let limits: InferenceEngine.Limits
    let load: InferenceEngine.Load
    let failure: String?
    private let script: Script
    /// Answers stay open after their events.
    private let neverEnds: Bool
    private let state = Mutex<(requests: [GenerationRequest], ended: Int)>(([], 0))

    init(
        positions: Int = 256, load: InferenceEngine.Load = .init(), failure: String? = nil, neverEnds: Bool = false,
        script: @escaping Script = ScriptedEngine.hello
    ) {
        limits = InferenceEngine.Limits(positions: positions)
        self.load = load
        self.failure = failure
        self.neverEnds = neverEnds
        self.script = script
    }

    var requests: [GenerationRequest] { state.withLock { $0.requests } }
    /// Requests whose consumer is gone, or that ended.
    var ended: Int { state.withLock { $0.ended } }

    func generate(
        _ request: GenerationRequest
    ) throws(InferenceEngine.Refusal) -> AsyncThrowingStream<GenerationEvent, any Error> {
        let events = try script(request)
        let (stream, continuation) = AsyncThrowingStream.makeStream(of: GenerationEvent.self)
        continuation.onTermination = { [self] _ in state.withLock { $0.ended += 1 } }
        state.withLock { $0.requests.append(request) }
        for event in events { continuation.yield(event) }
        if !neverEnds { continuation.finish() }
        return stream
    }

    func drain(timeout: Duration) async {}

    /// "Héllo" in two pieces.
    static let hello: Script = { request in answer(request, ["Hé", "llo"]) }

    /// The events of an answer of whole tokens, with log-probabilities when they are asked for.
    static func answer(
        _ request: GenerationRequest, _ pieces: [String], finish: FinishReason = .stop, cached: Int = 3
    ) -> [GenerationEvent] {
        var events: [GenerationEvent] = [.started(cachedTokens: cached)]
        if request.scoresPrompt {
            let prompt = request.prompt.enumerated().map { index, id in
                scored("<\(id)>", index == 0 ? nil : -2, request)
            }
            events.append(.prompt(prompt))
        }
        for piece in pieces {
            events.append(.text(piece, tokens: request.alternatives == nil ? [] : [scored(piece, -0.25, request)]))
        }
        return events + [.finished(finish, completionTokens: pieces.count + 1)]
    }

    private static func scored(_ text: String, _ logprob: Float?, _ request: GenerationRequest) -> ScoredToken {
        // The token itself is the most likely one; the others are parts of characters that no sampling gives.
        var others: [ScoredToken.Alternative] = []
        for index in 0..<(logprob == nil ? 0 : request.alternatives ?? 0) {
            let isItself = index == 0
            let bytes = isItself ? Array(text.utf8) : [0xC3, UInt8(index)]
            others.append(
                .init(
                    text: isItself ? text : "\u{FFFD}", bytes: bytes,
                    logprob: isItself ? logprob ?? 0 : -Float.infinity))
        }
        return ScoredToken(text: text, bytes: Array(text.utf8), logprob: logprob, alternatives: others)
    }
}

/// Adapters that a test tells of.
final class ScriptedAdapters: AdapterSource {
    let entries: [AdapterStore.Entry]
    let rejected = ["b-rejected": "the ZIP directory is cut short"]
    private let state = Mutex<[String]>([])

    init(_ names: [String]) { entries = names.map(Self.entry) }

    /// What was asked of it.
    var calls: [String] { state.withLock { $0 } }

    private func note(_ call: String) { state.withLock { $0.append(call) } }

    private static func entry(_ name: String) -> AdapterStore.Entry {
        AdapterStore.Entry(
            name: name, path: name + ".lora", digest: digest(name), rank: 8, fileBytes: 1234, isLoaded: true,
            isPinned: false,
            published: .now, publishedTime: 1_700_000_000, swaps: 2, failure: nil)
    }

    static func digest(_ name: String) -> String {
        String(repeating: String(name.utf8.reduce(0) { ($0 * 31 + UInt64($1)) % 0xFFFF_FFFF }, radix: 16), count: 8)
    }

    func snapshot(named name: String) async throws(AdapterStore.Failure) -> AdapterSnapshot {
        note("snapshot \(name)")
        if name == "broken" { throw .unusable(name: name, reason: "the ZIP directory is cut short") }
        guard entries.contains(where: { $0.name == name }) else { throw .unknown(name) }
        return AdapterSnapshot(name: name, digest: Self.digest(name), parameters: TinyTokenizer.noParameters)
    }

    func load(name: String, path: String, replaces: Bool) async throws(AdapterStore.Failure) {
        note("load \(name) \(path) \(replaces)")
        if path.hasPrefix("/") { throw .badPath(path) }
        if path == "missing.lora" { throw .unknown(path) }
        if path == "broken.lora" { throw .unusable(name: name, reason: "the ZIP directory is cut short") }
        if !replaces, entries.contains(where: { $0.name == name }) { throw .alreadyLoaded(name) }
    }

    func unload(name: String) throws(AdapterStore.Failure) {
        note("unload \(name)")
        guard entries.contains(where: { $0.name == name }) else { throw .unknown(name) }
    }
}
