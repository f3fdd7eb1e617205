internal import Crypto
internal import Foundation
internal import LoRAFormats

/// Writes a `TokenFile`, piece by piece.
struct TokenFileWriter: ~Copyable {
    private var file: ScratchFile
    /// Becomes the end of `file`; apart so that memory does not grow with the examples.
    private var index: ScratchFile
    private var hash = SHA256()
    private var words = 0
    private var tally = TokenFile.Tally()

    /// - Throws: `FormatError` when the directory cannot be written.
    init(directory: String, mayBeKept: Bool) throws {
        let file = try ScratchFile(directory: directory, mayBeKept: mayBeKept)
        let index = try ScratchFile(directory: directory, mayBeKept: false)
        self.file = file
        self.index = index
    }

    /// - Throws: `FormatError` when there is no room.
    mutating func append(_ rows: borrowing EncodedRows) throws {
        guard tally.examples + rows.tally.examples <= UInt32.max else {
            throw TrainingDataError("more than \(UInt32.max) rows; split the data")
        }
        var entries: [UInt64] = []
        entries.reserveCapacity(rows.entries.count * 2)
        for entry in rows.entries {
            entries.append(UInt64(words + entry.start))
            entries.append(entry.hash)
        }
        try entries.withUnsafeBytes { try index.write($0) }
        try rows.words.withUnsafeBytes { try write($0) }
        words += rows.words.count
        tally.add(rows.tally)
    }

    /// Rows that became no example.
    var skips: Dataset.Skips { tally.skips }

    private mutating func write(_ bytes: UnsafeRawBufferPointer) throws {
        hash.update(bufferPointer: bytes)
        try file.write(bytes)
    }

    /// Writes the rest, and gives the file the name `path` if there is one.
    /// - Throws: `FormatError` when there is no room.
    mutating func finish(form: RowForm, key: String, keepingAs path: String?) throws -> TokenFile {
        try appendIndex()
        let summary = TokenFile.Summary(
            key: key, form: form, words: words, tally: tally, digest: Digest.hexadecimal(hash.finalize()))
        var end = try [UInt8](JSONEncoder().encode(summary))
        let length = UInt64(end.count)
        end += end.withUnsafeBytes { Array(Digest.hexadecimal(of: $0).utf8) }
        for word in [length, TokenFile.magic] { withUnsafeBytes(of: word) { end += $0 } }
        try end.withUnsafeBytes { try file.write($0) }
        if let path { try file.keep(as: path) }
        return try TokenFile(file.opened())
    }

    private mutating func appendIndex() throws {
        let source = try index.opened()
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        var offset = 0
        while offset < index.count {
            let count = try buffer.withUnsafeMutableBytes { bytes in try source.read(into: bytes, at: offset) }
            try buffer.withUnsafeBytes { try write(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
            offset += count
        }
    }
}
