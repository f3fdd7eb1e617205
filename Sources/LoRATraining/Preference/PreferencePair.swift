/// Two answers to one prompt, of which one is preferred; each is supervised at the tokens of its answer.
public struct PreferencePair: Sendable, Equatable {
    public let chosen: Example
    public let rejected: Example

    public init(chosen: Example, rejected: Example) {
        self.chosen = chosen
        self.rejected = rejected
    }

    /// Tokens of both.
    var tokenCount: Int { chosen.tokens.count + rejected.tokens.count }
    /// Tokens of both answers.
    var supervisedCount: Int { chosen.supervisedCount + rejected.supervisedCount }
}
