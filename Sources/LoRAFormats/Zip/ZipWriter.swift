/// Writes ZIP archives: deflated where that is smaller, dated 1980-01-01, so that equal files give equal archives.
public enum ZipWriter {
    /// Seconds, minutes, hours and date in MS-DOS form: 1980-01-01 00:00.
    private static let date: UInt32 = 0x0021_0000

    /// The bytes of an archive of `files`, in that order.
    /// - Throws: `FormatError` for an unsafe or repeated name, or more than 4 GiB.
    public static func serialize(_ files: [(name: String, bytes: [UInt8])]) throws -> [UInt8] {
        var archive: [UInt8] = []
        var directory: [UInt8] = []
        var names: Set<String> = []
        guard files.count < UInt16.max else { throw FormatError("\(files.count) files are too many for a ZIP archive") }
        for (name, bytes) in files {
            let what = "ZIP entry \(FormatError.quoted(name))"
            if let flaw = ZipEntry.flaw(in: name) { throw FormatError("\(what): the name \(flaw)") }
            guard names.insert(name).inserted else { throw FormatError("\(what): the name is there twice") }
            guard bytes.count < UInt32.max, archive.count < UInt32.max, name.utf8.count <= UInt16.max else {
                throw FormatError("\(what): \(bytes.count) bytes or its name are too large for a ZIP archive")
            }
            let (header, data) = try pack(bytes, name: name)
            append(to: &directory, ZipRecord.centralSignature)
            append(to: &directory, UInt16(3 << 8 | 20))  // made on Unix, by the rules of version 2.0
            directory.append(contentsOf: header)
            append(to: &directory, UInt16(0), UInt16(0), UInt16(0))  // comment, disk, text or binary
            append(to: &directory, UInt32(0o100644) << 16, UInt32(archive.count))
            directory.append(contentsOf: name.utf8)
            append(to: &archive, ZipRecord.localSignature)
            archive.append(contentsOf: header)
            archive.append(contentsOf: name.utf8)
            archive.append(contentsOf: data)
        }
        guard archive.count < UInt32.max, directory.count < UInt32.max else {
            throw FormatError("\(archive.count) bytes are too many for a ZIP archive")
        }
        let (start, size, count) = (UInt32(archive.count), UInt32(directory.count), UInt16(files.count))
        archive.append(contentsOf: directory)
        append(to: &archive, ZipRecord.endSignature)
        append(to: &archive, UInt16(0), UInt16(0), count, count)
        append(to: &archive, size, start)
        append(to: &archive, UInt16(0))
        return archive
    }

    /// Writes an archive of `files` to `path`, atomically.
    /// - Throws: `FormatError`; the old file is then still in place.
    public static func write(_ files: [(name: String, bytes: [UInt8])], to path: String) throws {
        try AtomicFile.write(try serialize(files), to: path)
    }

    /// The part of the header that both places share, and the packed bytes.
    private static func pack(_ bytes: [UInt8], name: String) throws -> (header: [UInt8], data: [UInt8]) {
        let checksum = bytes.withUnsafeBytes { Deflate.checksum($0) }
        let deflated = try bytes.withUnsafeBytes { try Deflate.deflate($0) }
        let isSmaller = deflated.count < bytes.count
        let data = isSmaller ? deflated : bytes
        let isASCII = name.utf8.allSatisfy { $0 < 0x80 }
        var header: [UInt8] = []
        append(to: &header, UInt16(20), isASCII ? 0 : ZipRecord.utf8Flag)
        append(to: &header, isSmaller ? ZipEntry.Method.deflated.rawValue : ZipEntry.Method.stored.rawValue)
        append(to: &header, date, checksum, UInt32(data.count), UInt32(bytes.count))
        append(to: &header, UInt16(name.utf8.count), UInt16(0))
        return (header, data)
    }

    private static func append<Value: FixedWidthInteger>(to bytes: inout [UInt8], _ values: Value...) {
        for value in values { bytes.append(littleEndian: value) }
    }
}
