import HTTPTypes
import LoRAFormats
import NIOCore
import NIOHTTP1
import NIOHTTPTypes

/// Guards one connection, between HTTP's codec and the routes: refuses it politely when there are too many, answers
/// what is no HTTP with the error object, ends it when the client dawdles or reads nothing, and tells when the client
/// goes away.
///
/// All of it runs on the channel's event loop.
final class ConnectionHandler: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    private let connections: Connections
    /// nil for a connection that is refused.
    private var connection: Connection?
    private var isReadingRequest = false
    /// Requests read and not yet answered.
    private var unanswered = 0
    /// Whether the reply that is being written is the last.
    private var closesAfterReply = false
    private var isClosing = false
    /// Whether a reply of its own took the place of the routes' one.
    private var hasReplied = false
    private var readDeadline: Scheduled<Void>?
    private var writeDeadline: Scheduled<Void>?

    init(connections: Connections) { self.connections = connections }

    private var limits: HTTPLimits { connections.limits }

    // MARK: Life

    func handlerAdded(context: ChannelHandlerContext) {
        connection = connections.add(context.channel)
        expectRead(context, within: connection == nil ? limits.bodyTimeout : limits.idleTimeout)
    }

    func handlerRemoved(context: ChannelHandlerContext) { end(context) }

    func channelInactive(context: ChannelHandlerContext) {
        end(context)
        context.fireChannelInactive()
    }

    private func end(_ context: ChannelHandlerContext) {
        readDeadline?.cancel()
        writeDeadline?.cancel()
        guard let connection else { return }
        self.connection = nil
        isClosing = true
        connections.remove(context.channel)
        connection.end()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        // A client that closed its side may still read in principle; none that asks for text does.
        if case .inputClosed? = event as? ChannelEvent { connection?.end() }
        context.fireUserInboundEventTriggered(event)
    }

    // MARK: Requests

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isClosing else { return }
        switch unwrapInboundIn(data) {
        case .head:
            if connection == nil {
                return reply(.unavailable("too many connections", code: "too_many_connections", retryAfter: 1), context)
            }
            isReadingRequest = true
            unanswered += 1
            expectRead(context, within: limits.bodyTimeout)
        case .body: break
        case .end:
            isReadingRequest = false
            readDeadline?.cancel()
            if unanswered == 0 { expectRead(context, within: limits.idleTimeout) }
        }
        if connection != nil { context.fireChannelRead(data) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let error = error as? HTTPParserError else { return context.fireErrorCaught(error) }
        if isClosing { return }
        // In the middle of another reply nothing can be said.
        guard unanswered == 0 || isReadingRequest && unanswered == 1 else { return context.close(promise: nil) }
        let isLarge = error == .headerOverflow
        reply(
            APIError(
                status: isLarge ? .requestHeaderFieldsTooLarge : .badRequest,
                message: isLarge
                    ? "the request's head is larger than \(limits.headerBytes) bytes" : "this is no HTTP request",
                type: "invalid_request_error", code: isLarge ? "headers_too_large" : "invalid_http"), context)
    }

    /// Answers in place of the routes and closes.
    private func reply(_ error: APIError, _ context: ChannelHandlerContext) {
        (isClosing, hasReplied) = (true, true)
        let text = ByteBuffer(string: error.json.serialized())
        var headers = error.headers
        headers[.connection] = "close"
        headers[.contentType] = "application/json"
        headers[.contentLength] = String(text.readableBytes)
        context.write(wrapOutboundOut(.head(HTTPResponse(status: error.status, headerFields: headers))), promise: nil)
        context.write(wrapOutboundOut(.body(text)), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        closeSoon(context)
    }

    // MARK: Replies

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard !hasReplied else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        let part = unwrapOutboundIn(data)
        if case .head(let head) = part { closesAfterReply = head.headerFields[.connection] == "close" }
        context.write(data, promise: promise)
        guard case .end = part else { return }
        unanswered -= 1
        if closesAfterReply {
            isClosing = true
            context.flush()
            closeSoon(context)
        } else if unanswered == 0, !isReadingRequest {
            expectRead(context, within: limits.idleTimeout)
        }
    }

    /// Closes when the client had a moment to read the reply: at once, what it still sends would make the system drop it.
    private func closeSoon(_ context: ChannelHandlerContext) {
        context.close(mode: .output, promise: nil)
        expectRead(context, within: .seconds(1))
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        writeDeadline?.cancel()
        if !context.channel.isWritable { writeDeadline = close(context, within: limits.writeTimeout) }
        context.fireChannelWritabilityChanged()
    }

    // MARK: Deadlines

    private func expectRead(_ context: ChannelHandlerContext, within timeout: Duration) {
        readDeadline?.cancel()
        readDeadline = close(context, within: timeout)
    }

    private func close(_ context: ChannelHandlerContext, within timeout: Duration) -> Scheduled<Void> {
        let channel = context.channel
        return context.eventLoop.scheduleTask(in: TimeAmount(timeout)) { channel.close(promise: nil) }
    }
}
