/// One file of a ZIP archive.
public struct ZipEntry: Sendable, Hashable {
    /// How the bytes are stored.
    enum Method: UInt16 {
        case stored = 0
        case deflated = 8
    }

    /// A relative path with `/` between its parts; never absolute, never with `.` or `..`.
    public let name: String
    /// Bytes once inflated.
    public let size: Int
    let method: Method
    /// CRC-32 of the inflated bytes.
    let checksum: UInt32
    /// Of the stored bytes, from the beginning of the archive.
    let range: Range<Int>

    /// What is wrong with `name` as the name of a file to unpack; `nil` when nothing is.
    static func flaw(in name: String) -> String? {
        if name.isEmpty { return "is empty" }
        if name.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F }) { return "has a control character" }
        if name.utf8.contains(UInt8(ascii: "\\")) { return "has a backslash" }
        if name.utf8.first == UInt8(ascii: "/") { return "is absolute" }
        for part in name.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false) {
            if part.isEmpty { return "has an empty part" }
            if part.elementsEqual(".".utf8) || part.elementsEqual("..".utf8) { return "has a '.' or '..' part" }
        }
        return nil
    }
}

/// Signatures and sizes of the records in a ZIP archive (PKWARE's APPNOTE 6.3.10).
enum ZipRecord {
    static let localSignature: UInt32 = 0x0403_4B50
    static let localSize = 30
    static let centralSignature: UInt32 = 0x0201_4B50
    static let centralSize = 46
    static let endSignature: UInt32 = 0x0605_4B50
    static let endSize = 22
    static let descriptorSignature: UInt32 = 0x0807_4B50
    static let zip64ExtraField: UInt16 = 1

    static let encryptedFlags: UInt16 = 1 << 0 | 1 << 6 | 1 << 13
    static let descriptorFlag: UInt16 = 1 << 3
    static let patchFlag: UInt16 = 1 << 5
    static let utf8Flag: UInt16 = 1 << 11
}
