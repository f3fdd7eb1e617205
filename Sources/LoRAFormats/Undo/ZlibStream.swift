import CZlib

/// Bytes deflated as they come, into a zlib stream (RFC 1950).
final class DeflateStream {
    private let stream: UnsafeMutablePointer<z_stream>
    private var output = [UInt8](repeating: 0, count: 1 << 16)

    /// What is deflated here is zeros and noise: looking for more than runs takes three times as long and more room.
    private static let strategy = Z_RLE

    init() throws(FormatError) {
        stream = .allocate(capacity: 1)
        stream.initialize(to: z_stream())
        let started = deflateInit2_(
            stream, 1, Z_DEFLATED, MAX_WBITS, 9, Self.strategy, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
        guard started == Z_OK else { throw FormatError("zlib could not start, probably for lack of memory") }
    }

    deinit {
        deflateEnd(stream)
        stream.deallocate()
    }

    /// Hands what `bytes` give to `sink`; with `ends`, all that is left too.
    func write(_ bytes: UnsafeRawBufferPointer, ends: Bool = false, _ sink: ([UInt8]) throws -> Void) throws {
        var rest = bytes[...]
        repeat {
            let part = UnsafeRawBufferPointer(rebasing: rest.prefix(1 << 30))
            rest = rest.dropFirst(part.count)
            stream.pointee.next_in = UnsafeMutablePointer(mutating: part.bindMemory(to: UInt8.self).baseAddress)
            stream.pointee.avail_in = UInt32(part.count)
            try drain(flush: ends && rest.isEmpty ? Z_FINISH : Z_NO_FLUSH, sink)
        } while !rest.isEmpty
    }

    private func drain(flush: Int32, _ sink: ([UInt8]) throws -> Void) throws {
        var result = Z_OK
        repeat {
            let room = output.count
            let free = output.withUnsafeMutableBufferPointer { buffer in
                stream.pointee.next_out = buffer.baseAddress
                stream.pointee.avail_out = UInt32(room)
                result = deflate(stream, flush)
                return Int(stream.pointee.avail_out)
            }
            if free < room { try sink(Array(output[..<(room - free)])) }
        } while stream.pointee.avail_out == 0
        let expected = flush == Z_FINISH ? Z_STREAM_END : Z_OK
        guard result == expected || result == Z_BUF_ERROR else { throw FormatError("zlib failed (\(result))") }
    }
}

/// The bytes of a zlib stream, in parts.
final class InflateStream {
    private let stream: UnsafeMutablePointer<z_stream>
    private var rest: Slice<UnsafeRawBufferPointer>
    /// Bytes of the stream that were read.
    private(set) var position = 0

    /// - Parameter bytes: the stream; they must outlive this object.
    init(_ bytes: UnsafeRawBufferPointer) throws(FormatError) {
        rest = bytes[...]
        stream = .allocate(capacity: 1)
        stream.initialize(to: z_stream())
        guard inflateInit_(stream, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
            throw FormatError("zlib could not start, probably for lack of memory")
        }
    }

    deinit {
        inflateEnd(stream)
        stream.deallocate()
    }

    /// Fills `output`, which has less than 4 GiB.
    /// - Throws: `FormatError` when the stream is damaged or ends before.
    func read(into output: UnsafeMutableRawBufferPointer) throws(FormatError) {
        stream.pointee.next_out = output.bindMemory(to: UInt8.self).baseAddress
        stream.pointee.avail_out = UInt32(output.count)
        while stream.pointee.avail_out > 0 {
            let part = UnsafeRawBufferPointer(rebasing: rest.prefix(1 << 30))
            stream.pointee.next_in = UnsafeMutablePointer(mutating: part.bindMemory(to: UInt8.self).baseAddress)
            stream.pointee.avail_in = UInt32(part.count)
            let result = inflate(stream, Z_NO_FLUSH)
            let used = part.count - Int(stream.pointee.avail_in)
            rest = rest.dropFirst(used)
            position += used
            guard result == Z_OK || (result == Z_STREAM_END && stream.pointee.avail_out == 0) else {
                throw FormatError("the packed bytes are damaged or too few (zlib \(result))")
            }
        }
    }
}
