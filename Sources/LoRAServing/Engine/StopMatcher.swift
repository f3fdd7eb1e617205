/// Finds stop texts in UTF-8 that comes a byte at a time (Knuth, Morris and Pratt 1977, for each of them).
struct StopMatcher: Sendable {
    private struct Pattern: Sendable {
        let bytes: [UInt8]
        /// How much of the pattern's beginning the first n bytes of it end with, apart from themselves, at n - 1.
        let borders: [Int]
        /// How much of the pattern's beginning the text ends with.
        var matched = 0

        init(_ text: String) {
            bytes = Array(text.utf8)
            var borders = [Int](repeating: 0, count: bytes.count)
            for index in bytes.indices.dropFirst() {
                var border = borders[index - 1]
                while border > 0, bytes[border] != bytes[index] { border = borders[border - 1] }
                borders[index] = bytes[border] == bytes[index] ? border + 1 : 0
            }
            self.borders = borders
        }

        mutating func advance(_ byte: UInt8) {
            while matched > 0, bytes[matched] != byte { matched = borders[matched - 1] }
            if bytes[matched] == byte { matched += 1 }
        }
    }

    private var patterns: [Pattern]

    /// Empty texts stop nothing.
    init(_ stops: [String]) { patterns = stops.filter { !$0.isEmpty }.map { Pattern($0) } }

    /// Takes the next byte, up to the first match.
    /// - Returns: bytes of the longest stop text that ends here, if any does.
    mutating func advance(_ byte: UInt8) -> Int? {
        var found: Int?
        for index in patterns.indices {
            patterns[index].advance(byte)
            let count = patterns[index].bytes.count
            if patterns[index].matched == count { found = max(found ?? 0, count) }
        }
        return found
    }

    /// How many bytes at the end of the text may be the beginning of a stop text.
    var undecidedCount: Int { patterns.reduce(0) { max($0, $1.matched) } }
}
