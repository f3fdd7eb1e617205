/// The events of several requests as one sequence, each with the place of its request.
///
/// Nobody waits for anybody: what comes is kept, at most the answers' tokens, until it is asked for.
struct MergedEvents: Sendable {
    typealias Element = (answer: Int, event: GenerationEvent)

    let events: AsyncThrowingStream<Element, any Error>
    private let continuation: AsyncThrowingStream<Element, any Error>.Continuation

    init(_ sources: [AsyncThrowingStream<GenerationEvent, any Error>]) {
        let (events, continuation) = AsyncThrowingStream.makeStream(of: Element.self)
        let task = Task {
            do {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for (index, source) in sources.enumerated() {
                        group.addTask {
                            for try await event in source { continuation.yield((index, event)) }
                        }
                    }
                    // The first failure ends all.
                    for try await _ in group {}
                }
                continuation.finish()
            } catch {
                continuation.finish(throwing: error)
            }
        }
        continuation.onTermination = { _ in task.cancel() }
        self.events = events
        self.continuation = continuation
    }

    /// Ends the sequence with a `CancellationError`, and so the requests.
    func cancel() { continuation.finish(throwing: CancellationError()) }
}
