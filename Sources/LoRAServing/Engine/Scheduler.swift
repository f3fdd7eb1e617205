import LoRAFormats
import LoRAModel
import LoRAText

/// The engine's thread: admits requests, makes steps, hands out what they gave.
///
/// A step is two passes. Answers under way take a token each through the stored blocks of the base; prompts that are being
/// read share a bounded number of rows through expanded matrices. Which of the two a token takes depends on its own
/// request alone (`InferencePass.Products`), so nothing else in a step changes it.
final class Scheduler {
    private let model: BaseModel
    private let tokenizer: Tokenizer
    private let limits: InferenceEngine.Limits
    private let board: RequestBoard
    private let pass: InferencePass
    private let guardian: MapGuardian
    private let prefixes = PrefixCache()
    private var running: [RunningSequence] = []
    /// Taken from the queue, waiting for pages.
    private var candidate: RequestBoard.Posting?
    /// Pages of keys and values that all may take together, and those set aside for running sequences.
    private let pageLimit: Int
    private var reservedPages = 0

    /// Rows of prompts in a step: few beside answers under way, whose next tokens wait for them.
    private static let readingRows = 512
    private static let readingRowsBesideAnswers = 128

    init(
        model: BaseModel, tokenizer: Tokenizer, pool: ThreadPool, compute: Compute, limits: InferenceEngine.Limits,
        board: RequestBoard
    ) throws {
        self.model = model
        self.tokenizer = tokenizer
        self.limits = limits
        self.board = board
        pageLimit = limits.cacheBytes / KeyValueCache.pageBytes(configuration: model.configuration)
        pass = try InferencePass(
            model: model, pool: pool, compute: compute, capacity: max(Self.readingRows, limits.sequences),
            positions: limits.positions)
        guardian = try MapGuardian(model.file.map)
    }

    /// Works until the board is closed.
    func run() {
        while case .goOn(let withdrawn) = board.awaitNews(isBusy: !running.isEmpty || candidate != nil) {
            drop(withdrawn)
            if let change = guardian.change { return fail(change) }
            admit()
            step()
            retire()
        }
        fail(nil)
    }

    // MARK: Coming and going

    private func admit() {
        while running.count < limits.sequences, let posting = candidate ?? board.take() {
            candidate = posting
            guard let sequence = start(posting) else { return }
            candidate = nil
            running.append(sequence)
        }
    }

    /// nil where there are no pages for all that the request may need: once it runs, it never waits for memory.
    private func start(_ posting: RequestBoard.Posting) -> RunningSequence? {
        let request = posting.request
        let prefix = request.scoresPrompt ? [] : prefixes.acquire(root(request), request.prompt)
        let pages = KeyValueCache.pageCount(positions: request.prompt.count + request.maximumTokens) - prefix.count
        let missing = reservedPages + prefixes.pageCount + pages - pageLimit
        if missing > 0, prefixes.evict(missing) < missing {
            prefixes.release(prefix)
            return nil
        }
        reservedPages += pages
        return RunningSequence(
            posting, cache: KeyValueCache(configuration: model.configuration, prefix: prefix.map(\.page)),
            prefix: prefix, reservedPages: pages, tokenizer: tokenizer)
    }

    /// Ends what nobody reads any more.
    private func drop(_ withdrawn: Set<Int>) {
        for sequence in running where withdrawn.contains(sequence.posting.number) { sequence.abandon() }
        retire()
        guard let posting = candidate, withdrawn.contains(posting.number) else { return }
        posting.reader.finish()
        board.end(posting.number, seconds: 0)
        candidate = nil
    }

    private func root(_ request: GenerationRequest) -> PrefixCache.Root {
        .init(tenant: request.tenant, digest: request.adapter?.digest ?? "")
    }

    private func retire() {
        for sequence in running where sequence.isDone {
            prefixes.release(sequence.prefix)
            reservedPages -= sequence.reservedPages
            board.end(sequence.posting.number, seconds: (ContinuousClock.now - sequence.start) / .seconds(1))
        }
        running.removeAll(where: \.isDone)
    }

    /// Ends everything; nil for a reason that callers know.
    private func fail(_ reason: String?) {
        let refusal = reason.map { InferenceEngine.Refusal.failed($0) } ?? .draining
        for sequence in running { sequence.fail(refusal) }
        retire()
        candidate?.reader.finish(throwing: refusal)
        candidate.map { board.end($0.number, seconds: 0) }
        board.endWaiting(refusal)
    }

    // MARK: A step

    private func step() {
        let answering = running.filter { !$0.isReading }
        let reading = running.filter(\.isReading)
        run(answering, by: .stored, rows: answering.count)
        run(reading, by: .expanded, rows: answering.isEmpty ? Self.readingRows : Self.readingRowsBesideAnswers)
        for sequence in reading where !sequence.isReading { keepPrompt(of: sequence) }
    }

    private func run(_ sequences: [RunningSequence], by products: InferencePass.Products, rows: Int) {
        var room = rows
        var owners: [(sequence: RunningSequence, position: Int)] = []
        var chunks: [InferencePass.Chunk] = []
        for sequence in sequences where room > 0 {
            owners.append((sequence, sequence.cache.count))
            let chunk = sequence.chunk(room)
            room -= chunk.tokens.count
            chunks.append(chunk)
        }
        guard !chunks.isEmpty else { return }
        pass.run(chunks, by: products) { chunk, row, logits in
            owners[chunk].sequence.accept(logits, position: owners[chunk].position + row)
        }
        var served: [String: Int] = [:]
        for (owner, chunk) in zip(owners, chunks) {
            served[owner.sequence.request.tenant, default: 0] += chunk.tokens.count
        }
        board.charge(served)
    }

    /// The prompt's full pages become part of the prefix cache.
    private func keepPrompt(of sequence: RunningSequence) {
        let kept = prefixes.extend(
            sequence.prefix, root(sequence.request), sequence.request.prompt, pages: sequence.cache.pages)
        let moved = kept.count - sequence.prefix.count
        sequence.prefix = kept
        sequence.reservedPages -= moved
        reservedPages -= moved
    }
}
