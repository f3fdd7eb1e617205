/// Reads the directory of a ZIP archive and compares it with the header before each entry's bytes, so that no two
/// programs can see different contents in one file.
struct ZipDirectory {
    private(set) var entries: [ZipEntry] = []
    private let bytes: UnsafeRawBufferPointer
    /// Where entries end and the central directory begins.
    private let directoryStart: Int
    /// Parts of the file that entries occupy.
    private var occupied: [Range<Int>] = []
    private var names: Set<String> = []

    init(reading bytes: UnsafeRawBufferPointer) throws(FormatError) {
        self.bytes = bytes
        let end = try Self.findEnd(bytes)
        var reader = ByteReader(bytes, at: end + 4)
        let disk = try reader.integer(UInt16.self, "the disk number")
        let directoryDisk = try reader.integer(UInt16.self, "the directory's disk number")
        let countOnDisk = try reader.integer(UInt16.self, "the entry count of this disk")
        let count = try reader.integer(UInt16.self, "the entry count")
        let size = try reader.integer(UInt32.self, "the directory size")
        let start = try reader.integer(UInt32.self, "the directory offset")
        guard count != .max, size != .max, start != .max else { throw Self.zip64("the end record at byte \(end)") }
        guard disk == 0, directoryDisk == 0, countOnDisk == count else {
            throw FormatError("a ZIP archive of several disks (end record at byte \(end)); pack it as one file")
        }
        guard Int(start) + Int(size) == end else {
            throw FormatError(
                "ZIP directory at byte \(start) with \(size) bytes does not end at the end record at byte "
                    + "\(end); the file is damaged"
            )
        }
        directoryStart = Int(start)
        var directory = ByteReader(UnsafeRawBufferPointer(rebasing: bytes[..<end]), at: Int(start))
        for _ in 0..<count { try readEntry(&directory) }
        guard directory.remaining == 0 else {
            throw FormatError(
                "ZIP directory has \(directory.remaining) bytes after its last entry at byte \(directory.offset)")
        }
        occupied.sort { $0.lowerBound < $1.lowerBound }
        for (first, second) in zip(occupied, occupied.dropFirst()) where first.upperBound > second.lowerBound {
            throw FormatError("ZIP entries overlap at byte \(second.lowerBound); the file is damaged or hostile")
        }
    }

    /// The offset of the record that ends the archive, whose comment must reach exactly to the end of the file.
    private static func findEnd(_ bytes: UnsafeRawBufferPointer) throws(FormatError) -> Int {
        let last = bytes.count - ZipRecord.endSize
        guard last >= 0 else {
            throw FormatError("not a ZIP archive: \(bytes.count) bytes are fewer than its end record has")
        }
        for offset in stride(from: last, through: max(0, last - Int(UInt16.max)), by: -1) {
            let signature = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
            guard signature == ZipRecord.endSignature else { continue }
            let comment = UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: offset + 20, as: UInt16.self))
            if offset + ZipRecord.endSize + Int(comment) == bytes.count { return offset }
        }
        throw FormatError("not a ZIP archive, or a truncated one: no end record in the last 64 KiB")
    }

    private static func zip64(_ place: String) -> FormatError {
        FormatError("\(place) is in zip64 form, which is not read; pack files below 4 GiB without it")
    }

    /// What the central directory and the local header both say.
    private struct Header: Equatable {
        var flags: UInt16
        var method: UInt16
        var checksum: UInt32
        var compressedSize: UInt32
        var size: UInt32

        init(_ reader: inout ByteReader) throws(FormatError) {
            flags = try reader.integer(UInt16.self, "flags")
            method = try reader.integer(UInt16.self, "a method")
            _ = try reader.take(4, "a date")
            checksum = try reader.integer(UInt32.self, "a checksum")
            compressedSize = try reader.integer(UInt32.self, "a compressed size")
            size = try reader.integer(UInt32.self, "a size")
        }
    }

    private mutating func readEntry(_ directory: inout ByteReader) throws(FormatError) {
        let start = directory.offset
        guard try directory.integer(UInt32.self, "a directory entry") == ZipRecord.centralSignature else {
            throw FormatError("ZIP directory entry at byte \(start) has a wrong signature; the file is damaged")
        }
        _ = try directory.take(4, "versions")
        let header = try Header(&directory)
        let nameLength = try directory.integer(UInt16.self, "a name length")
        let extraLength = try directory.integer(UInt16.self, "an extra length")
        let commentLength = try directory.integer(UInt16.self, "a comment length")
        let disk = try directory.integer(UInt16.self, "a disk number")
        _ = try directory.take(6, "attributes")
        let offset = try directory.integer(UInt32.self, "an offset")
        let name = try directory.text(Int(nameLength), "a ZIP entry name")
        let place = "ZIP entry \(FormatError.quoted(name)) (described at byte \(start))"
        try checkExtra(try directory.take(Int(extraLength), "an extra field"), place)
        _ = try directory.take(Int(commentLength), "a comment")
        guard header.compressedSize != .max, header.size != .max, offset != .max else { throw Self.zip64(place) }
        guard disk == 0 else { throw FormatError("\(place) is on disk \(disk); pack the archive as one file") }
        guard header.flags & ZipRecord.encryptedFlags == 0 else {
            throw FormatError("\(place) is encrypted; pack it without a password")
        }
        guard header.flags & ZipRecord.patchFlag == 0, let method = ZipEntry.Method(rawValue: header.method) else {
            throw FormatError("\(place) is packed with method \(header.method), expected 0 (stored) or 8 (deflate)")
        }
        let isDirectory = name.utf8.last == UInt8(ascii: "/")
        if let flaw = ZipEntry.flaw(in: isDirectory ? String(name.dropLast()) : name) {
            throw FormatError("\(place): the name \(flaw); refused")
        }
        guard names.insert(name).inserted else { throw FormatError("\(place): the name is there twice") }
        let range = try checkLocal(header, name: name, offset: Int(offset), place)
        guard method == .deflated || header.size == header.compressedSize, !isDirectory || header.size == 0 else {
            throw FormatError(
                "\(place) has sizes \(header.compressedSize) and \(header.size), which contradict its method")
        }
        if isDirectory { return }
        entries.append(
            ZipEntry(
                name: name, size: Int(header.size), method: method, checksum: header.checksum, range: range))
    }

    private func checkExtra(_ extra: UnsafeRawBufferPointer, _ place: String) throws(FormatError) {
        var reader = ByteReader(extra)
        // Some writers pad with fewer than 4 bytes.
        while reader.remaining >= 4 {
            let identifier = try reader.integer(UInt16.self, "an extra field of \(place)")
            let length = try reader.integer(UInt16.self, "an extra field of \(place)")
            if identifier == ZipRecord.zip64ExtraField { throw Self.zip64(place) }
            guard Int(length) <= reader.remaining else {
                throw FormatError("\(place) has an extra field that reaches past its end")
            }
            _ = try reader.take(Int(length), "an extra field of \(place)")
        }
    }

    /// Checks the header before the entry's bytes and returns where these are.
    private mutating func checkLocal(
        _ header: Header, name: String, offset: Int, _ place: String
    ) throws(FormatError) -> Range<Int> {
        guard offset <= directoryStart else {
            throw FormatError(
                "\(place) is said to start at byte \(offset), after the entries' end at \(directoryStart)")
        }
        var reader = ByteReader(UnsafeRawBufferPointer(rebasing: bytes[..<directoryStart]), at: offset)
        guard try reader.integer(UInt32.self, "the local header of \(place)") == ZipRecord.localSignature else {
            throw FormatError("\(place) has no local header at byte \(offset); the file is damaged")
        }
        _ = try reader.take(2, "a version")
        var local = try Header(&reader)
        let nameLength = try reader.integer(UInt16.self, "a name length")
        let extraLength = try reader.integer(UInt16.self, "an extra length")
        let localName = try reader.take(Int(nameLength), "a name")
        try checkExtra(try reader.take(Int(extraLength), "an extra field"), place)
        let hasDescriptor = header.flags & ZipRecord.descriptorFlag != 0
        if hasDescriptor {
            // A streaming writer knows these only afterwards; it writes 0 here.
            if local.checksum == 0 { local.checksum = header.checksum }
            if local.compressedSize == 0 { local.compressedSize = header.compressedSize }
            if local.size == 0 { local.size = header.size }
        }
        guard local == header, localName.elementsEqual(name.utf8) else {
            throw FormatError("\(place): the local header at byte \(offset) says otherwise than the directory")
        }
        let start = reader.offset
        _ = try reader.take(Int(header.compressedSize), "the data of \(place)")
        let range = start..<reader.offset
        if hasDescriptor { try checkDescriptor(&reader, header, place) }
        occupied.append(offset..<reader.offset)
        return range
    }

    private func checkDescriptor(_ reader: inout ByteReader, _ header: Header, _ place: String) throws(FormatError) {
        let start = reader.offset
        var first = try reader.integer(UInt32.self, "the data descriptor of \(place)")
        // The signature is optional.
        if first == ZipRecord.descriptorSignature {
            first = try reader.integer(UInt32.self, "the data descriptor of \(place)")
        }
        let compressedSize = try reader.integer(UInt32.self, "the data descriptor of \(place)")
        let size = try reader.integer(UInt32.self, "the data descriptor of \(place)")
        guard first == header.checksum, compressedSize == header.compressedSize, size == header.size else {
            throw FormatError("\(place): the data descriptor at byte \(start) says otherwise than the directory")
        }
    }
}
