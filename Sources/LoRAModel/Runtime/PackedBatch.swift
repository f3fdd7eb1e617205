/// Examples laid end to end without padding: each attends to itself alone and counts its positions from 0.
///
/// Examples that begin with the same tokens, such as a system message, may share the rows of that prefix: it is computed
/// once, every example attends to it, and gradients of all of them flow back into it. The arithmetic is that of separate
/// copies.
public struct PackedBatch: Sendable, Equatable {
    /// A run of rows that attend to each other, causally, after the rows of the prefix if it shares it.
    public struct Segment: Sendable, Equatable {
        public let start: Int
        public let count: Int
        /// Rows of the shared prefix before its first position: 0 or the batch's `prefixCount`.
        public let prefix: Int
    }

    public private(set) var tokens: [Int32] = []
    /// Position of each row in its example.
    public private(set) var positions: [Int32] = []
    public private(set) var segments: [Segment] = []
    /// Rows, from the first on, that all examples share.
    public let prefixCount: Int
    /// Rows whose next token counts in the loss, ascending, and that token.
    public private(set) var targetRows: [Int32] = []
    public private(set) var targets: [Int32] = []

    /// - Parameter prefix: tokens that every example appended begins with, none of them supervised; empty for none.
    public init(prefix: ArraySlice<Int32> = []) {
        prefixCount = prefix.count
        guard !prefix.isEmpty else { return }
        tokens += prefix
        positions += (0..<Int32(prefix.count))
        segments.append(Segment(start: 0, count: prefix.count, prefix: 0))
    }

    /// Appends an example: the token at position t > 0 is a target of row t - 1 where `supervised[t]`. Tokens after the
    /// last one that any target needs are left out, for nothing depends on them.
    public mutating func append(tokens example: [Int32], supervised: [Bool]) {
        precondition(example.count == supervised.count, "\(example.count) tokens, \(supervised.count) flags")
        let rows = Self.rowsNeeded(supervised: supervised)
        guard rows > 0 else { return }
        let sharesPrefix =
            prefixCount < rows && example.starts(with: tokens[..<prefixCount])
            && !supervised[...prefixCount].dropFirst().contains(true)
        precondition(sharesPrefix, "an example that does not share the prefix of \(prefixCount) tokens")
        let start = tokens.count
        segments.append(Segment(start: start, count: rows - prefixCount, prefix: prefixCount))
        tokens += example[prefixCount..<rows]
        positions += (Int32(prefixCount)..<Int32(rows))
        for position in prefixCount + 1...rows where supervised[position] {
            targetRows.append(Int32(start + position - 1 - prefixCount))
            targets.append(example[position])
        }
    }

    /// Rows that `append` would add to a batch without prefix: everything before the last supervised position.
    public static func rowsNeeded(supervised: [Bool]) -> Int {
        max(0, supervised.lastIndex(of: true) ?? 0)
    }
}
