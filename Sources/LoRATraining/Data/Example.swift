/// One training example: tokens, and which of them the loss asks for.
///
/// `supervised[t]` says that predicting token t from the tokens before it counts in the loss. The first token has
/// nothing before it and is never supervised.
public struct Example: Sendable, Equatable {
    /// Token ids (T).
    public let tokens: [Int32]
    /// The loss mask (T), shifted already: it marks predicted tokens, not the positions that predict them.
    public let supervised: [Bool]
    /// The line of the file it came from, counted from 1.
    public let line: Int
    /// Supervised positions.
    public let supervisedCount: Int

    /// - Parameter supervised: as many as `tokens`; the first is taken as false.
    public init(tokens: [Int32], supervised: [Bool], line: Int) {
        precondition(
            tokens.count == supervised.count,
            "\(tokens.count) tokens, but \(supervised.count) marks of supervision")
        self.tokens = tokens
        self.line = line
        var mask = supervised
        if !mask.isEmpty { mask[0] = false }
        self.supervised = mask
        supervisedCount = mask.count(where: { $0 })
    }
}

/// What exact match asks of one row: the prompt up to the last answer, and that answer.
public struct Question: Sendable, Equatable {
    /// Token ids of everything before the answer, with the template's generation prompt at the end.
    public let prompt: [Int32]
    /// The answer's text, as the row has it.
    public let answer: String
    /// The line of the file it came from, counted from 1.
    public let line: Int

    public init(prompt: [Int32], answer: String, line: Int) {
        self.prompt = prompt
        self.answer = answer
        self.line = line
    }
}
