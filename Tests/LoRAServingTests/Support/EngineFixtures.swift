import Foundation
import LoRAFormats
import LoRAModel
import LoRAServing
import LoRAText
import TestSupport

/// A base with its tokenizer.
struct TestBase: Sendable {
    let model: BaseModel
    let tokenizer: Tokenizer

    init(path: String) throws {
        model = try BaseModel(path: path)
        tokenizer = try Tokenizer(gguf: model.file)
    }

    /// Two blocks of random weights, a token per byte, 256 positions.
    static func tiny() throws -> TestBase { try TestBase(path: tinyPath()) }

    static func tinyPath() throws -> String { try made.get() }

    private static let made = Result {
        let path = FileManager.default.temporaryDirectory.appending(path: "lora-tiny-\(UUID().uuidString).bin").path
        try TinyBase(seed: 1).write(to: path)
        return path
    }

    /// SmolLM2-135M in Q4_1.
    static func real() throws -> TestBase {
        let package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
        return try TestBase(path: package.appending(path: "models/base.bin").path)
    }

    /// An adapter of the attention's projections with random values; its digest is its seed.
    func adapter(seed: UInt64, rank: Int = 4) -> AdapterSnapshot {
        let targets: [TargetModule] = [.queryProjection, .keyProjection, .valueProjection, .outputProjection]
        let layout = AdapterLayout(configuration: model.configuration) { _, target in
            targets.contains(target) ? (rank, 2) : nil
        }
        let parameters = AdapterParameters(layout: layout)
        var random = SplitMix64(seed: seed)
        for index in 0..<layout.parameterCount { parameters.values[index] = (random.nextUnit() - 0.5) * 0.1 }
        return AdapterSnapshot(name: "adapter-\(seed)", digest: "\(seed)", parameters: parameters)
    }

    /// Runs `body` with an engine that ends with it.
    func withEngine<Result: Sendable>(
        compute: Compute = .best, _ change: (inout InferenceEngine.Limits) -> Void = { _ in },
        _ body: (InferenceEngine) async throws -> Result
    ) async throws -> Result {
        var limits = InferenceEngine.Limits(positions: model.configuration.contextLength)
        change(&limits)
        let pool = ThreadPool(count: 2)
        let engine = try InferenceEngine(
            model: model, tokenizer: tokenizer, pool: pool, compute: compute, limits: limits)
        let result: Swift.Result<Result, any Error>
        do { result = .success(try await body(engine)) } catch { result = .failure(error) }
        await engine.drain(timeout: .seconds(60))
        return try result.get()
    }
}

/// All that an engine told about a request.
struct Answer: Sendable, Equatable {
    var text = ""
    var cachedTokens = 0
    var completionTokens = 0
    var reason: FinishReason?
    /// Of the tokens and their alternatives, prompt first.
    var logprobs: [Float] = []
    var tokenTexts: [String] = []

    /// Whether all but the number of cached tokens is the same, bit for bit.
    func says(_ other: Answer) -> Bool {
        text == other.text && reason == other.reason && completionTokens == other.completionTokens
            && logprobs.map(\.bitPattern) == other.logprobs.map(\.bitPattern) && tokenTexts == other.tokenTexts
    }
}

extension InferenceEngine {
    func answer(_ request: GenerationRequest) async throws -> Answer {
        var answer = Answer()
        for try await event in try generate(request) {
            switch event {
            case .started(let cached): answer.cachedTokens = cached
            case .prompt(let tokens): answer.add(tokens)
            case .text(let text, let tokens):
                answer.text += text
                answer.add(tokens)
            case .finished(let reason, let count): (answer.reason, answer.completionTokens) = (reason, count)
            }
        }
        return answer
    }

    /// All of them at a time.
    func answers(_ requests: [GenerationRequest]) async throws -> [Answer] {
        try await withThrowingTaskGroup(of: (Int, Answer).self) { group in
            for (index, request) in requests.enumerated() {
                group.addTask { (index, try await self.answer(request)) }
            }
            var answers = [Answer](repeating: Answer(), count: requests.count)
            for try await (index, answer) in group { answers[index] = answer }
            return answers
        }
    }
}

extension Answer {
    fileprivate mutating func add(_ tokens: [ScoredToken]) {
        for token in tokens {
            tokenTexts.append(token.text)
            logprobs += (token.logprob.map { [$0] } ?? []) + token.alternatives.map(\.logprob)
        }
    }
}
