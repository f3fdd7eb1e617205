import LoRAFormats
import LoRAModel
import LoRAText

/// The engine's thread: admits requests, makes steps, hands out what they gave.
///
/// Answers under way take a token each through the stored blocks of the base, and with them what is short of prompts; long
/// prompts share a pass through expanded matrices. Which of the two a token takes depends on its own request alone
/// (`InferencePass.expandedTokens`), so nothing else changes it. A step is a pass of the first kind and some blocks of the
/// second: answers go on while a prompt is read, and a prompt's rows are many enough to pay for expanding.
final class Scheduler {
    private let model: BaseModel
    private let tokenizer: Tokenizer
    private let limits: InferenceEngine.Limits
    private let board: RequestBoard
    /// Of a few rows, and of many.
    private let storedPass: InferencePass
    private let expandedPass: InferencePass
    /// What goes through the latter.
    private var reading: [Owner] = []
    private let guardian: MapGuardian
    private let prefixes = PrefixCache()
    /// In the order in which they came.
    private var running: [RunningSequence] = []
    /// Those that gave up their pages for older ones, in the same order; all are younger than those that run.
    private var paused: [RunningSequence] = []
    /// Taken from the queue, waiting for pages.
    private var candidate: RequestBoard.Posting?
    /// Pages of keys and values that all may take together, and those set aside for running sequences.
    private let pageLimit: Int
    private var reservedPages = 0

    /// Tokens of an answer for which pages are set aside before it begins; for more, they are when it comes to them.
    private static let answerTokens = 4 * KeyValueCache.pageLength

    /// Seconds that a row of prompts took lately in one block.
    private var secondsPerRow = 1e-5

    /// Rows of a pass over prompts beside answers under way, at least.
    private static let fewestRows = 64
    /// Rows of short prompts in a step beside answers, which wait for them.
    private static let shortRowsBesideAnswers = 32
    /// How long prompts are read in a step: beside answers so many times what those took, else so many seconds.
    private static let (readingRatio, readingSeconds) = (2.0, 0.01)

    /// A sequence in a pass, with the position of its first token there.
    private struct Owner {
        let sequence: RunningSequence
        let position: Int
    }

    init(
        model: BaseModel, tokenizer: Tokenizer, pool: ThreadPool, compute: Compute, limits: InferenceEngine.Limits,
        board: RequestBoard
    ) throws {
        self.model = model
        self.tokenizer = tokenizer
        self.limits = limits
        self.board = board
        pageLimit = limits.cacheBytes / KeyValueCache.pageBytes(configuration: model.configuration, compute: compute)
        let pass = {
            try InferencePass(
                model: model, pool: pool, compute: compute, capacity: $0, positions: limits.positions)
        }
        (storedPass, expandedPass) = try (pass(InferencePass.storedRows), pass(InferencePass.mostRows))
        guardian = try MapGuardian(model.file.map)
    }

    /// Works until the board is closed.
    func run() {
        while case .goOn(let withdrawn) = board.awaitNews(
            isBusy: !running.isEmpty || !paused.isEmpty || candidate != nil)
        {
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
        while running.count < limits.sequences, let sequence = paused.first, resume(sequence) {
            running.append(paused.removeFirst())
        }
        while paused.isEmpty, running.count < limits.sequences, let posting = candidate ?? board.take() {
            candidate = posting
            guard let sequence = start(posting) else { return }
            candidate = nil
            running.append(sequence)
        }
    }

    /// nil where there are no pages for the prompt and the beginning of the answer.
    private func start(_ posting: RequestBoard.Posting) -> RunningSequence? {
        guard let (prefix, pages) = reserve(posting.request, tokens: posting.request.prompt.count) else { return nil }
        let sequence = RunningSequence(
            posting, configuration: model.configuration, prefix: prefix, reservedPages: pages, tokenizer: tokenizer)
        sequence.leader = leader(of: sequence, among: running[...])
        return sequence
    }

    private func resume(_ sequence: RunningSequence) -> Bool {
        guard let (prefix, pages) = reserve(sequence.request, tokens: sequence.pendingCount) else { return false }
        sequence.resume(prefix, reservedPages: pages)
        return true
    }

    /// Sets pages aside for a sequence that holds none, with `tokens` to be read.
    private func reserve(
        _ request: GenerationRequest, tokens: Int
    ) -> (prefix: [PrefixCache.Node], pages: Int)? {
        let prefix = request.scoresPrompt ? [] : prefixes.acquire(root(request), request.prompt)
        let most = request.prompt.count + request.maximumTokens
        // Scores of a prompt are given once, so that such a request is never read again.
        let positions = request.scoresPrompt ? most : min(most, tokens + Self.answerTokens)
        let pages = KeyValueCache.pageCount(positions: positions) - prefix.count
        // Those that run are to go on for a while before one has to pause.
        let growth = running.count * KeyValueCache.pageCount(positions: Self.answerTokens)
        guard reservedPages + prefixes.usedPageCount + pages + growth <= pageLimit else {
            prefixes.release(prefix)
            return nil
        }
        reservedPages += pages
        return (prefix, pages)
    }

    /// Sets aside what the next token of an answer needs, at the expense of younger ones; the youngest pauses itself.
    /// - Returns: whether there is room for the token.
    private func reserveNext(_ sequence: RunningSequence) -> Bool {
        let missing = sequence.ownPages(1) - sequence.reservedPages
        guard missing > 0 else { return true }
        while reservedPages + prefixes.usedPageCount + missing > pageLimit {
            let younger = running.drop { $0 !== sequence }.dropFirst().filter { !$0.isDone }
            guard let youngest = younger.last(where: isPausable) else {
                // Those in a pass can be paused after it.
                if younger.isEmpty, isPausable(sequence) { pause(sequence) }
                return false
            }
            pause(youngest)
        }
        sequence.reservedPages += missing
        reservedPages += missing
        return true
    }

    private func isPausable(_ sequence: RunningSequence) -> Bool {
        !sequence.request.scoresPrompt && !reading.contains { $0.sequence === sequence }
    }

    private func pause(_ sequence: RunningSequence) {
        release(sequence)
        sequence.pause()
        running.removeAll { $0 === sequence }
        paused.insert(sequence, at: 0)
        board.notePause()
    }

    private func release(_ sequence: RunningSequence) {
        prefixes.release(sequence.prefix)
        reservedPages -= sequence.reservedPages
    }

    /// The one of `others` that is reading most of what `sequence` begins with and has not: answers to one prompt read it
    /// once.
    private func leader(
        of sequence: RunningSequence, among others: ArraySlice<RunningSequence>
    ) -> (sequence: RunningSequence, tokens: Int)? {
        let (request, length) = (sequence.request, KeyValueCache.pageLength)
        guard !request.scoresPrompt else { return nil }
        var best: (sequence: RunningSequence, tokens: Int)?
        for other in others where !other.isDone && root(other.request) == root(request) {
            let equal = zip(request.prompt, other.request.prompt).prefix { $0 == $1 }.reduce(0) { count, _ in count + 1
            }
            let shared = min(equal / length * length, sequence.expandedCount, other.expandedCount)
            guard shared > max(sequence.cache.count, other.cache.count, best?.tokens ?? 0) else { continue }
            best = (other, shared)
        }
        return best
    }

    /// Whether `sequence`, at `index`, waits for another one's reading; if not, what was read meanwhile becomes its prefix.
    private func waits(_ sequence: RunningSequence, at index: Int) -> Bool {
        guard let leader = sequence.leader else { return false }
        if !leader.sequence.isDone, leader.sequence.cache.count < leader.tokens { return true }
        let longer = prefixes.acquire(root(sequence.request), sequence.request.prompt)
        let (path, moved) = (sequence.prefix, longer.count - sequence.prefix.count)
        prefixes.release(moved > 0 ? path : longer)
        if moved > 0 {
            sequence.adopt(longer)
            reservedPages -= moved
        }
        sequence.leader = self.leader(of: sequence, among: running[..<index])
        return sequence.leader != nil
    }

    /// Ends what nobody reads any more.
    private func drop(_ withdrawn: Set<Int>) {
        for sequence in running + paused where withdrawn.contains(sequence.posting.number) { sequence.abandon() }
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
        for sequence in running + paused where sequence.isDone {
            release(sequence)
            board.end(sequence.posting.number, seconds: (ContinuousClock.now - sequence.start) / .seconds(1))
        }
        running.removeAll(where: \.isDone)
        paused.removeAll(where: \.isDone)
    }

    /// Ends everything; nil for a reason that callers know.
    private func fail(_ reason: String?) {
        let refusal = reason.map { InferenceEngine.Refusal.failed($0) } ?? .draining
        for sequence in running + paused { sequence.fail(refusal) }
        retire()
        candidate?.reader.finish(throwing: refusal)
        candidate.map { board.end($0.number, seconds: 0) }
        board.endWaiting(refusal)
    }

    // MARK: A step

    private func step() {
        let begin = ContinuousClock.now
        let awake = running.enumerated().filter { !waits($1, at: $0) }.map(\.element)
        let ready = awake.filter { sequence in
            // One before it may have taken its pages.
            guard !paused.contains(where: { $0 === sequence }) else { return false }
            return sequence.isReading || reserveNext(sequence)
        }
        let isAnswering = write(ready.filter { $0.expandedRest == 0 })
        let seconds = (ContinuousClock.now - begin) / .seconds(1)
        read(
            ready.filter { $0.expandedRest > 0 },
            seconds: isAnswering ? Self.readingRatio * seconds : Self.readingSeconds, besideAnswers: isAnswering)
    }

    /// A token of each answer under way, and what is left of prompts.
    /// - Returns: whether there are answers under way.
    private func write(_ sequences: [RunningSequence]) -> Bool {
        let answers = sequences.count { !$0.isReading }
        var shortRows = InferencePass.storedRows - answers
        if answers > 0 { shortRows = min(shortRows, Self.shortRowsBesideAnswers) }
        let (owners, chunks) = chunks(sequences) { sequence in
            guard sequence.isReading else { return 1 }
            defer { shortRows -= min(shortRows, sequence.pendingCount) }
            return min(shortRows, sequence.pendingCount)
        }
        guard !chunks.isEmpty else { return false }
        storedPass.run(chunks, by: .stored) { chunk, row, logits in
            owners[chunk].sequence.accept(logits, position: owners[chunk].position + row)
        }
        charge(owners)
        return answers > 0
    }

    /// Takes prompts through some blocks.
    private func read(_ sequences: [RunningSequence], seconds limit: Double, besideAnswers: Bool) {
        if reading.allSatisfy(\.sequence.isDone) {
            let most = InferencePass.mostRows
            var rows = besideAnswers ? min(most, max(Self.fewestRows, Int(limit / secondsPerRow) & ~15)) : most
            let (owners, chunks) = chunks(sequences) { sequence in
                defer { rows -= min(rows, sequence.expandedRest) }
                return min(rows, sequence.expandedRest)
            }
            reading = owners
            // What was begun may have been for requests that are gone: their adapters shall be freed with them.
            guard !chunks.isEmpty else { return expandedPass.abandon() }
            expandedPass.begin(chunks)
        }
        let begin = ContinuousClock.now
        var (spent, left) = (0.0, 0)
        repeat {
            left = expandedPass.advance(blocks: 1)
            let now = (ContinuousClock.now - begin) / .seconds(1)
            secondsPerRow += ((now - spent) / Double(expandedPass.rowCount) - secondsPerRow) / 16
            // Whether another one would fit.
            if now + (now - spent) > limit { break }
            spent = now
        } while left > 0
        if left == 0 { finishReading() }
    }

    private func finishReading() {
        expandedPass.finish { chunk, row, logits in
            guard !reading[chunk].sequence.isDone else { return }
            reading[chunk].sequence.accept(logits, position: reading[chunk].position + row)
        }
        charge(reading)
        for owner in reading where !owner.sequence.isDone { keepPrompt(of: owner.sequence) }
        reading = []
    }

    /// The next tokens of sequences, as many of each as `count` says.
    private func chunks(
        _ sequences: [RunningSequence], _ count: (RunningSequence) -> Int
    ) -> (owners: [Owner], chunks: [InferencePass.Chunk]) {
        var (owners, chunks): ([Owner], [InferencePass.Chunk]) = ([], [])
        for sequence in sequences {
            let count = count(sequence)
            guard count > 0 else { continue }
            owners.append(Owner(sequence: sequence, position: sequence.cache.count))
            chunks.append(sequence.chunk(count))
        }
        makeRoom(for: chunks)
        return (owners, chunks)
    }

    /// Drops cached pages that nobody reads where the tokens of `chunks` need their room; what is only set aside needs none.
    /// There are always enough: what running sequences may need and what they read of the cache is within the limit.
    private func makeRoom(for chunks: [InferencePass.Chunk]) {
        let held = running.reduce(0) { $0 + $1.cache.pages.count - $1.prefix.count }
        let new = chunks.reduce(0) { sum, chunk in
            let needed = KeyValueCache.pageCount(positions: chunk.cache.count + chunk.tokens.count)
            return sum + max(0, needed - chunk.cache.pages.count)
        }
        let missing = held + new + prefixes.pageCount - pageLimit
        if missing > 0 { prefixes.evict(missing) }
    }

    /// Notes what the tenants of a pass were served.
    private func charge(_ owners: [Owner]) {
        var served: [String: Int] = [:]
        for owner in owners {
            served[owner.sequence.request.tenant, default: 0] += owner.sequence.cache.count - owner.position
        }
        board.charge(served)
    }

    /// Full pages of the prompt become part of the prefix cache.
    private func keepPrompt(of sequence: RunningSequence) {
        let kept = prefixes.extend(
            sequence.prefix, root(sequence.request), sequence.request.prompt[..<sequence.cache.count],
            pages: sequence.cache.pages)
        let moved = kept.count - sequence.prefix.count
        sequence.prefix = kept
        sequence.reservedPages -= moved
        reservedPages -= moved
    }
}
