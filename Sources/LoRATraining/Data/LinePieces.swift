internal import LoRAFormats

/// Goes through a file of lines in pieces of some megabytes, so that its size does not matter.
struct LinePieces {
    /// Whole lines; the last line of a file may lack its line feed.
    struct Piece {
        /// Empty when `refusedBytes` is not nil.
        let bytes: [UInt8]
        /// Counted from 1.
        let firstLine: Int
        /// The length of one line that is too long to be read, without its line feed.
        var refusedBytes: Int?
    }

    /// A longer line is refused before it is parsed: no row to train on comes near.
    static let longestLine = 64 << 20
    /// Bytes read at a time.
    private let step: Int
    private let longest: Int

    private var rest: [UInt8] = []
    private var offset = 0
    private var line = 1
    private var isAtEnd = false

    init(step: Int = 4 << 20, longest: Int = LinePieces.longestLine) {
        self.step = step
        self.longest = longest
    }

    /// The lines that follow; nil at the end. A byte order mark at the beginning of the file is passed over.
    /// - Throws: `FormatError` with the system's reason.
    mutating func next(of file: borrowing OpenFile) throws(FormatError) -> Piece? {
        while true {
            let start = rest.count
            if !isAtEnd { try read(file) }
            if isAtEnd {
                guard !rest.isEmpty else { return nil }
                return take(rest.count)
            }
            if let end = rest[start...].lastIndex(of: 0x0A) { return take(end + 1) }
            if rest.count > longest { return try skipLine(of: file) }
        }
    }

    private mutating func read(_ file: borrowing OpenFile) throws(FormatError) {
        let (start, step, position) = (rest.count, step, offset)
        rest.append(contentsOf: repeatElement(0, count: step))
        var count = 0
        do {
            count = try rest.withUnsafeMutableBytes { bytes in
                try file.read(into: UnsafeMutableRawBufferPointer(rebasing: bytes[start...]), at: position)
            }
        } catch let error as FormatError {
            throw error
        } catch {
            throw FormatError("\(error)")
        }
        rest.removeLast(step - count)
        if position == 0, rest.starts(with: [0xEF, 0xBB, 0xBF]) { rest.removeFirst(3) }
        offset += count
        isAtEnd = count < step
    }

    /// Calls `body` with each line that is not blank, and its number, until it returns false. Lines end with LF or CRLF.
    static func forEachRow(
        of lines: UnsafeRawBufferPointer, firstLine: Int,
        _ body: (_ text: UnsafeRawBufferPointer, _ line: Int) throws -> Bool
    ) rethrows {
        var line = firstLine
        var start = 0
        while start < lines.count {
            let end = lines[start...].firstIndex(of: 0x0A) ?? lines.count
            let text = UnsafeRawBufferPointer(rebasing: lines[start..<end])
            let isBlank = text.allSatisfy { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }
            if try !isBlank && !body(text, line) { return }
            start = end + 1
            line += 1
        }
    }

    private mutating func take(_ count: Int) -> Piece {
        let piece = Piece(bytes: Array(rest[..<count]), firstLine: line)
        rest.removeFirst(count)
        line += piece.bytes.count { $0 == 0x0A }
        return piece
    }

    /// Passes over a line that is too long, whose beginning is all of `rest`.
    private mutating func skipLine(of file: borrowing OpenFile) throws(FormatError) -> Piece {
        var length = rest.count
        while true {
            rest = []
            if !isAtEnd { try read(file) }
            let end = rest.firstIndex(of: 0x0A)
            length += end ?? rest.count
            guard end != nil || isAtEnd else { continue }
            rest.removeFirst(end.map { $0 + 1 } ?? rest.count)
            defer { line += 1 }
            return Piece(bytes: [], firstLine: line, refusedBytes: length)
        }
    }
}

extension LinePieces.Piece {
    /// About `count` parts of whole lines, none of them small, in their order.
    func parts(_ count: Int) -> [(bytes: Range<Int>, firstLine: Int)] {
        let size = max(bytes.count / max(count, 1), 32 << 10)
        var parts: [(bytes: Range<Int>, firstLine: Int)] = []
        var (start, line) = (0, firstLine)
        while start < bytes.count {
            var end = min(start + size, bytes.count)
            if end < bytes.count { end = (bytes[end...].firstIndex(of: 0x0A) ?? bytes.count - 1) + 1 }
            parts.append((start..<end, line))
            line += bytes[start..<end].count { $0 == 0x0A }
            start = end
        }
        return parts
    }
}
