/// Examples laid end to end without padding: each attends to itself alone and counts its positions from 0.
public struct PackedBatch: Sendable, Equatable {
    /// A run of rows that attend to each other, causally.
    public struct Segment: Sendable, Equatable {
        public let start: Int
        public let count: Int
    }

    public private(set) var tokens: [Int32] = []
    /// Position of each row in its segment.
    public private(set) var positions: [Int32] = []
    public private(set) var segments: [Segment] = []
    /// Rows whose next token counts in the loss, ascending, and that token.
    public private(set) var targetRows: [Int32] = []
    public private(set) var targets: [Int32] = []

    public init() {}

    /// Appends an example: the token at position t > 0 is a target of row t - 1 where `supervised[t]`. Tokens after the
    /// last one that any target needs are left out, for nothing depends on them.
    public mutating func append(tokens example: [Int32], supervised: [Bool]) {
        precondition(example.count == supervised.count, "\(example.count) tokens, \(supervised.count) flags")
        let count = Self.rowsNeeded(supervised: supervised)
        guard count > 0 else { return }
        let start = tokens.count
        segments.append(Segment(start: start, count: count))
        tokens += example[..<count]
        positions += (0..<Int32(count))
        for position in 1...count where supervised[position] {
            targetRows.append(Int32(start + position - 1))
            targets.append(example[position])
        }
    }

    /// Rows that `append` would add: everything before the last supervised position.
    public static func rowsNeeded(supervised: [Bool]) -> Int {
        max(0, supervised.lastIndex(of: true) ?? 0)
    }
}
