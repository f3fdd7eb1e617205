/// What one client may ask of the server.
public struct HTTPLimits: Sendable {
    /// Bytes of a request's body.
    public var bodyBytes = 1 << 20
    /// Bytes of a request's header fields together, and of one.
    public var headerBytes = 32 << 10
    public var headerFields = 100
    /// Connections that are served at a time; more are answered with 503 and closed.
    public var connections = 1024
    /// Answers to one prompt (`n`).
    public var choices = 16
    /// Prompts of one request.
    public var prompts = 64
    /// Answers of one request: prompts times `n`. No more than one tenant may have waiting, or none would ever begin.
    public var answers = 64
    /// Tokens of an answer when the request does not say.
    public var defaultTokens = 4096
    /// Texts that end an answer, and bytes of each.
    public var stops = 16
    public var stopBytes = 1024
    public var messages = 4096
    /// Time until a request's head is complete, counted from the connection or the last reply.
    public var idleTimeout = Duration.seconds(75)
    /// Time from a request's head to the end of its body.
    public var bodyTimeout = Duration.seconds(30)
    /// Time that a client may read nothing of what is sent to it.
    public var writeTimeout = Duration.seconds(60)

    public init() {}
}
