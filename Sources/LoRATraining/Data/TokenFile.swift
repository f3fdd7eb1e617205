internal import Crypto
internal import Foundation
internal import LoRAFormats
internal import LoRAModel

/// Examples in one file, mapped read-only, so that their number does not matter. In this machine's order of bytes:
///
/// - a record of 32-bit words for each example: its line (two words), the number of its tokens, each token as
///   `id << 1 | supervised`; then, where exact match asks something, the number of the prompt's tokens, the prompt, the
///   number of the answer's bytes, the answer's UTF-8;
/// - an index of two 64-bit words for each: the word that its record begins at, the hash of its row;
/// - a summary in JSON, its SHA-256 in 64 digits, its length (8 bytes), and `magic`.
final class TokenFile: Sendable {
    static let magic: UInt64 = 0x4C6F_5241_546F_6B31
    /// Bytes of an entry of the index.
    static let entryBytes = 16
    /// Bytes behind the summary.
    static let trailerBytes = 80

    /// Sums over the examples of a file.
    struct Tally: Codable, Sendable, Equatable {
        var examples = 0
        var tokens = 0
        var supervised = 0
        var questions = 0
        /// Rows that the longest example takes in a batch.
        var longestRows = 0
        var skips = Dataset.Skips()

        mutating func count(_ example: Example, asks: Bool) {
            examples += 1
            tokens += example.tokens.count
            supervised += example.supervisedCount
            questions += asks ? 1 : 0
            longestRows = max(longestRows, PackedBatch.rowsNeeded(supervised: example.supervised))
        }

        mutating func add(_ other: Tally) {
            examples += other.examples
            tokens += other.tokens
            supervised += other.supervised
            questions += other.questions
            longestRows = max(longestRows, other.longestRows)
            skips.append(other.skips)
        }
    }

    struct Summary: Codable, Sendable {
        /// What the file was made of, and how; empty for one that nobody will look for.
        var key: String
        var form: RowForm
        var words: Int
        var tally: Tally
        /// SHA-256 of records and index.
        var digest: String
    }

    let summary: Summary
    var count: Int { summary.tally.examples }
    private let map: MappedFile

    /// - Throws: `FormatError` when the file is damaged, or none of its kind. Records and index are not looked at.
    init(_ file: borrowing OpenFile) throws {
        map = try file.map()
        summary = try Self.summary(map.bytes)
    }

    private static func summary(_ bytes: UnsafeRawBufferPointer) throws -> Summary {
        guard bytes.count >= trailerBytes,
            bytes.loadUnaligned(fromByteOffset: bytes.count - 8, as: UInt64.self) == magic
        else { throw FormatError("is no token file") }
        let length = bytes.loadUnaligned(fromByteOffset: bytes.count - 16, as: UInt64.self)
        guard length <= bytes.count - trailerBytes else { throw FormatError("the summary is longer than the file") }
        let start = bytes.count - trailerBytes - Int(length)
        let json = UnsafeRawBufferPointer(rebasing: bytes[start..<start + Int(length)])
        let stored = bytes[(start + Int(length))...].prefix(64)
        guard Digest.hexadecimal(of: json).utf8.elementsEqual(stored) else {
            throw FormatError("the summary is damaged")
        }
        let summary = try JSONDecoder().decode(Summary.self, from: Data(json))
        let (index, overflow) = summary.tally.examples.multipliedReportingOverflow(by: entryBytes)
        let (records, overflow2) = summary.words.multipliedReportingOverflow(by: 4)
        guard !overflow, !overflow2, index >= 0, records >= 0, records <= start, index == start - records else {
            throw FormatError("records and index do not fill the file")
        }
        return summary
    }

    /// Whether records and index are what was written. Reads all of the file.
    func isWhole() -> Bool {
        withExtendedLifetime(map) {
            let end = summary.words * 4 + count * Self.entryBytes
            var hash = SHA256()
            for start in stride(from: 0, to: end, by: 16 << 20) {
                let range = start..<min(start + (16 << 20), end)
                hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: map.bytes[range]))
                map.releasePages(range)
            }
            return Digest.hexadecimal(hash.finalize()) == summary.digest
        }
    }
}

extension TokenFile {
    /// The words of a record, and the hash of its row: of tokens and mask, so that copies of a row have the same.
    static func record(_ example: Example, _ question: Question?) -> (words: [UInt32], hash: UInt64) {
        let tokens = zip(example.tokens, example.supervised).map { UInt32(bitPattern: $0) << 1 | ($1 ? 1 : 0) }
        let line = UInt64(example.line)
        var words = [UInt32(truncatingIfNeeded: line), UInt32(truncatingIfNeeded: line >> 32), UInt32(tokens.count)]
        words += tokens
        if let question {
            words.append(UInt32(question.prompt.count))
            words += question.prompt.map(UInt32.init(bitPattern:))
            let answer = Array(question.answer.utf8)
            words.append(UInt32(answer.count))
            words += stride(from: 0, to: answer.count, by: 4).map { start in
                answer[start..<min(start + 4, answer.count)].reversed().reduce(0) { $0 << 8 | UInt32($1) }
            }
        }
        let hash = tokens.reduce(into: UInt64(tokens.count)) { hash, word in
            hash = (hash ^ UInt64(word)) &* 0x9E37_79B9_7F4A_7C15
            hash ^= hash >> 32
        }
        return (words, hash)
    }

    /// The hash of the row of example `index`.
    func hash(of index: Int) -> UInt64 { map.bytes.loadUnaligned(fromByteOffset: entry(index) + 8, as: UInt64.self) }

    /// All hashes, in the order of the examples.
    func hashes() -> [UInt64] {
        defer { map.releasePages(summary.words * 4..<map.bytes.count) }
        return (0..<count).map(hash)
    }

    func example(at index: Int) -> Example {
        withRecord(index) { words in
            let tokens = words[3..<3 + Self.tokenCount(words)]
            return Example(
                tokens: tokens.map { Int32(bitPattern: $0 >> 1) }, supervised: tokens.map { $0 & 1 == 1 },
                line: Self.line(words))
        }
    }

    func tokenCount(at index: Int) -> Int { withRecord(index, Self.tokenCount) }

    /// Nil where exact match asks nothing.
    func question(at index: Int) -> Question? {
        withRecord(index) { words in
            let rest = words[(3 + Self.tokenCount(words))...]
            guard let count = rest.first.map(Int.init) else { return nil }
            let prompt = rest.dropFirst().prefix(count)
            let answer = rest.dropFirst(1 + count)
            let bytes = answer.dropFirst().flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> ($0 * 8)) }
            }
            return Question(
                prompt: prompt.map(Int32.init(bitPattern:)),
                answer: String(decoding: bytes.prefix(Int(answer.first ?? 0)), as: UTF8.self), line: Self.line(words))
        }
    }

    private static func line(_ words: UnsafeBufferPointer<UInt32>) -> Int { Int(words[0]) | Int(words[1]) << 32 }

    private static func tokenCount(_ words: UnsafeBufferPointer<UInt32>) -> Int {
        let count = Int(words[2])
        precondition(count <= words.count - 3, "\(count) tokens in a record of \(words.count) words")
        return count
    }

    private func entry(_ index: Int) -> Int {
        precondition(index >= 0 && index < count, "example \(index) of \(count)")
        return summary.words * 4 + index * Self.entryBytes
    }

    /// What is read is let go of: going through any number of examples takes little memory.
    private func withRecord<Result>(_ index: Int, _ body: (UnsafeBufferPointer<UInt32>) -> Result) -> Result {
        withExtendedLifetime(map) {
            let entry = entry(index)
            let start = Int(map.bytes.loadUnaligned(fromByteOffset: entry, as: UInt64.self))
            let end =
                index + 1 < count
                ? Int(map.bytes.loadUnaligned(fromByteOffset: entry + Self.entryBytes, as: UInt64.self)) : summary.words
            // Release builds do not check slices of pointers.
            precondition(
                start >= 0 && end - start >= 3 && end <= summary.words,
                "record \(index) from word \(start) to \(end) of \(summary.words)")
            defer {
                release(entry..<entry + Self.entryBytes)
                release(start * 4..<end * 4)
            }
            return UnsafeRawBufferPointer(rebasing: map.bytes[start * 4..<end * 4]).withMemoryRebound(
                to: UInt32.self, body)
        }
    }

    /// The kernel maps 64 KiB around a page that is asked for.
    private func release(_ range: Range<Int>) {
        let window = 1 << 16
        let lower = range.lowerBound / window * window
        let upper = min((range.upperBound + window - 1) / window * window, map.bytes.count)
        map.releasePages(lower..<upper)
    }
}
