import CZlib

/// A ZIP archive of stored and deflated files, read from a map or from memory.
///
/// Zip64, encryption and archives of several disks are refused by name.
public struct ZipArchive: Sendable {
    /// Files in the order of the directory; folders are left out.
    public let entries: [ZipEntry]
    private let storage: ByteStorage

    /// Maps the archive at `path` and checks its directory.
    /// - Throws: `FormatError` with the byte offset or the entry.
    public init(path: String) throws {
        let map = try MappedFile(path: path)
        entries = try FormatError.locating(in: path) { () throws(FormatError) in
            try ZipDirectory(reading: map.bytes).entries
        }
        storage = .mapped(map)
    }

    /// Reads an archive that is in memory.
    /// - Throws: `FormatError` with the byte offset or the entry.
    public init(_ bytes: [UInt8]) throws { try self.init(OwnedBytes(bytes)) }

    /// Reads an archive that is in memory.
    /// - Throws: `FormatError` with the byte offset or the entry.
    public init(_ memory: OwnedBytes) throws {
        entries = try ZipDirectory(reading: memory.bytes).entries
        storage = .owned(memory)
    }

    /// The file of that name, if there is one.
    public func entry(named name: String) -> ZipEntry? { entries.first { $0.name == name } }

    /// The bytes of a file, inflated and compared with its checksum; at most `limit` of them.
    /// - Throws: `FormatError` when the file is larger, damaged, or inflates to another size than the archive says.
    public func read(_ entry: ZipEntry, limit: Int) throws -> OwnedBytes {
        try read(entry, limit: limit, digest: nil)
    }

    /// The same and the SHA-256 of the bytes, which another thread computes meanwhile.
    func readWithDigest(_ entry: ZipEntry, limit: Int) throws -> (bytes: OwnedBytes, digest: String) {
        let digest = BackgroundDigest()
        let bytes = try read(entry, limit: limit, digest: digest)
        return (bytes, digest.finish())
    }

    private func read(_ entry: ZipEntry, limit: Int, digest: BackgroundDigest?) throws -> OwnedBytes {
        let place = "ZIP entry \(FormatError.quoted(entry.name))"
        guard entry.size <= limit else {
            throw FormatError("\(place) has \(entry.size) bytes, more than the \(limit) that are read")
        }
        // Release builds do not check slices of pointers.
        precondition(entry.range.upperBound <= storage.bytes.count, "\(place) belongs to another archive")
        let packed = UnsafeRawBufferPointer(rebasing: storage.bytes[entry.range])
        // Deflate cannot shrink further than 1032 to 1: a larger claim is a bomb, and not worth its memory.
        guard entry.method == .stored || entry.size / 1032 <= packed.count else {
            throw FormatError(
                "\(place) claims \(entry.size) bytes, but its \(packed.count) packed bytes cannot hold them")
        }
        return try OwnedBytes(count: entry.size) { output in
            // Before the memory goes, if this throws.
            defer { digest?.wait() }
            switch entry.method {
            case .stored:
                output.copyMemory(from: packed)
                digest?.update(UnsafeRawBufferPointer(output))
            case .deflated: try Deflate.inflate(packed, into: output, place) { digest?.update($0) }
            }
            let checksum = Deflate.checksum(UnsafeRawBufferPointer(output))
            guard checksum == entry.checksum else {
                throw FormatError(
                    "\(place) is damaged: its CRC-32 is \(String(checksum, radix: 16)), expected "
                        + "\(String(entry.checksum, radix: 16))"
                )
            }
        }
    }
}

/// Raw deflate (RFC 1951) and CRC-32, by zlib.
enum Deflate {
    static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        UInt32(truncatingIfNeeded: crc32_z(0, bytes.bindMemory(to: UInt8.self).baseAddress, bytes.count))
    }

    /// Bytes of a piece: few enough to be in the cache still for who takes it.
    private static let piece = 256 << 10

    /// Fills `output` exactly, and calls `arrived` with one piece of it after the other; both sides are below 4 GiB.
    static func inflate(
        _ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer, _ place: String,
        arrived: (UnsafeRawBufferPointer) -> Void
    ) throws(FormatError) {
        var stream = z_stream()
        guard inflateInit2_(&stream, -MAX_WBITS, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
            throw FormatError("\(place): zlib could not start, probably for lack of memory")
        }
        defer { inflateEnd(&stream) }
        stream.next_in = UnsafeMutablePointer(mutating: input.bindMemory(to: UInt8.self).baseAddress)
        stream.avail_in = UInt32(input.count)
        stream.next_out = output.bindMemory(to: UInt8.self).baseAddress
        var (result, filled) = (Z_OK, 0)
        // Once more without room: what is left of the input may be the end alone.
        while result == Z_OK {
            let room = min(piece, output.count - filled)
            stream.avail_out = UInt32(room)
            result = CZlib.inflate(&stream, Z_NO_FLUSH)
            let upper = filled + room - Int(stream.avail_out)
            if upper > filled { arrived(UnsafeRawBufferPointer(rebasing: output[filled..<upper])) }
            filled = upper
        }
        switch result {
        case Z_STREAM_END where filled == output.count && stream.avail_in == 0: return
        case Z_STREAM_END where filled < output.count:
            throw FormatError("\(place) is damaged: it inflates to \(filled) bytes, expected \(output.count)")
        case Z_STREAM_END:
            throw FormatError("\(place) is damaged: \(stream.avail_in) bytes follow the end of its packed data")
        case Z_BUF_ERROR where filled == output.count:
            throw FormatError("\(place) inflates to more than the \(output.count) bytes that the archive says")
        default:
            throw FormatError("\(place) is damaged: its packed data cannot be inflated (zlib \(result))")
        }
    }

    /// The deflated form of `input` at level 9, which is below 4 GiB.
    static func deflate(_ input: UnsafeRawBufferPointer) throws(FormatError) -> [UInt8] {
        var stream = z_stream()
        let started = deflateInit2_(
            &stream, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
        guard started == Z_OK else { throw FormatError("zlib could not start, probably for lack of memory") }
        defer { deflateEnd(&stream) }
        let bound = Int(deflateBound(&stream, UInt(input.count)))
        stream.next_in = UnsafeMutablePointer(mutating: input.bindMemory(to: UInt8.self).baseAddress)
        stream.avail_in = UInt32(input.count)
        let output = [UInt8](unsafeUninitializedCapacity: bound) { buffer, count in
            stream.next_out = buffer.baseAddress
            stream.avail_out = UInt32(clamping: buffer.count)
            let result = CZlib.deflate(&stream, Z_FINISH)
            count = result == Z_STREAM_END ? Int(stream.total_out) : 0
        }
        guard !output.isEmpty else { throw FormatError("zlib could not deflate \(input.count) bytes") }
        return output
    }
}
