import LoRAModel
import LoRAText

/// Turns the tokens of an answer into the text that may be shown, up to the first stop text.
///
/// A stop text may begin and end inside tokens. The one that is complete first ends the answer, of several that end
/// together the longest: that depends on the text alone, not on how tokens divide it. A token is held back while its
/// text may belong to a stop text, or while its last character is unfinished.
struct ReplyText: Sendable {
    /// What can be shown now.
    struct Piece: Sendable {
        var text = ""
        /// Those tokens that came with a score: put together they are the text.
        var tokens: [ScoredToken] = []
        /// Whether the answer ended at a stop text.
        var isStopped = false
    }

    /// What is known about a token besides its text.
    struct Score: Sendable {
        var logprob: Float?
        var alternatives: [TokenProbabilities.Scored]
    }

    private struct Held: Sendable {
        var id: Int32
        var text: String
        /// Where its text begins, in bytes of the answer.
        var start: Int
        var score: Score?
        var end: Int { start + text.utf8.count }
    }

    private let tokenizer: Tokenizer
    private var decoder: StreamingDecoder
    private var matcher: StopMatcher
    private var held: [Held] = []
    /// Bytes of the answer so far, held ones included.
    private var count = 0
    private var isStopped = false

    /// - Parameter skippingSpecial: whether control tokens are left out of the text.
    init(tokenizer: Tokenizer, stops: [String] = [], skippingSpecial: Bool = true) {
        self.tokenizer = tokenizer
        decoder = StreamingDecoder(tokenizer: tokenizer, skippingSpecial: skippingSpecial)
        matcher = StopMatcher(stops)
    }

    /// Takes the next token. After a stop text nothing comes any more.
    mutating func append(_ id: Int32, score: Score? = nil) -> Piece {
        guard !isStopped else { return Piece(isStopped: true) }
        held.append(Held(id: id, text: decoder.append(id), start: count, score: score))
        if let cut = advance(held[held.count - 1].text) { return stop(at: cut) }
        return release(releasableCount)
    }

    /// Ends the answer: what was held back, with U+FFFD for an unfinished character.
    mutating func finish() -> Piece {
        guard !isStopped else { return Piece(isStopped: true) }
        let rest = decoder.finish()
        if !held.isEmpty { held[held.count - 1].text += rest }
        if let cut = advance(rest) { return stop(at: cut) }
        return release(held.count)
    }

    // MARK: Parts

    /// Where the first stop text begins that `text` completes.
    private mutating func advance(_ text: String) -> Int? {
        for byte in text.utf8 {
            count += 1
            if let length = matcher.advance(byte) { return count - length }
        }
        return nil
    }

    /// Held tokens up to the last one whose text is decided. One without text is part of a character, or shows nothing:
    /// it goes with the text after it.
    private var releasableCount: Int {
        let decided = count - matcher.undecidedCount
        var rest = decoder
        let isUnfinished = !rest.finish().isEmpty
        let last = held.lastIndex { !$0.text.isEmpty && $0.end <= decided }
        guard let last else { return 0 }
        return isUnfinished && last == held.count - 1 ? last : last + 1
    }

    private mutating func release(_ count: Int) -> Piece {
        var piece = Piece()
        for token in held[..<count] {
            piece.text += token.text
            if let score = token.score { piece.tokens.append(scored(token, score)) }
        }
        held.removeFirst(count)
        return piece
    }

    /// Drops what begins at or after a byte of the answer, and cuts the token that crosses it.
    private mutating func stop(at cut: Int) -> Piece {
        isStopped = true
        held.removeAll { $0.start >= cut }
        var crossing: String?
        if let last = held.last, last.end > cut {
            // A stop text begins with a whole character, so that the cut divides none.
            crossing = String(decoding: last.text.utf8.prefix(cut - last.start), as: UTF8.self)
            held[held.count - 1].text = crossing ?? ""
        }
        var piece = release(held.count)
        if let crossing, !piece.tokens.isEmpty { piece.tokens[piece.tokens.count - 1].bytes = Array(crossing.utf8) }
        piece.isStopped = true
        return piece
    }

    private func scored(_ token: Held, _ score: Score) -> ScoredToken {
        ScoredToken(
            text: token.text, bytes: tokenizer.bytes(of: token.id), logprob: score.logprob,
            alternatives: score.alternatives.map { alternative in
                let bytes = tokenizer.bytes(of: alternative.token)
                return .init(
                    text: String(decoding: bytes, as: UTF8.self), bytes: bytes, logprob: alternative.logprob)
            })
    }
}
