import LoRAFormats

/// Which pairs of neighbours merge, and into what.
struct MergeTable: Sendable {
    /// Rank of each pair: lower ranks merge first. Keys are `pairKey`s.
    private(set) var ranks: [UInt64: Int32] = [:]
    /// The token that a merge of each rank gives.
    private(set) var results: [Int32] = []

    static func pairKey(_ left: Int32, _ right: Int32) -> UInt64 {
        UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
    }

    private mutating func append(_ left: Int32, _ right: Int32, result: Int32) {
        // As in Hugging Face's tokenizers, the last of several equal merges counts.
        ranks[Self.pairKey(left, right)] = Int32(results.count)
        results.append(result)
    }
}

extension MergeTable {
    /// - Parameter merges: "left right", best first.
    init(_ merges: [String], table: TokenTable) throws(FormatError) {
        ranks.reserveCapacity(merges.count)
        results.reserveCapacity(merges.count)
        var joined: [UInt8] = []
        for (rank, merge) in merges.enumerated() {
            guard let (left, right, result) = Self.parse(merge, table: table, joined: &joined) else {
                throw FormatError(
                    "tokenizer.ggml.merges[\(rank)] is \(quoted(merge)); expected two tokens of the vocabulary with one "
                        + "space between them that together are a token; convert the model again")
            }
            append(left, right, result: result)
        }
    }

    private static func parse(
        _ merge: String, table: TokenTable, joined: inout [UInt8]
    ) -> (left: Int32, right: Int32, result: Int32)? {
        var merge = merge
        return merge.withUTF8 { text in
            guard let space = text.firstIndex(of: UInt8(ascii: " ")) else { return nil }
            joined.removeAll(keepingCapacity: true)
            joined.append(contentsOf: text[..<space])
            joined.append(contentsOf: text[(space + 1)...])
            return joined.withUnsafeBytes { joined in
                guard
                    let left = table.id(of: UnsafeRawBufferPointer(rebasing: joined[..<space])),
                    let right = table.id(of: UnsafeRawBufferPointer(rebasing: joined[space...])),
                    let result = table.id(of: joined)
                else { return nil }
                return (left, right, result)
            }
        }
    }
}

extension MergeTable {
    /// Longer tokens are refused, since each place in a token may divide it; SentencePiece's own limit is far lower.
    private static let longestToken = 1024

    private struct Candidate {
        let score: Float
        let left: Int32
        let right: Int32
        let result: Int32
        /// Characters of the two parts.
        let leftLength: Int
        let rightLength: Int
    }

    /// The merges that SentencePiece's scores stand for, in the order in which Hugging Face writes them into
    /// tokenizer.json: a token of a higher score first, and of the ways to put it together the one with more characters
    /// on the left. (llama.cpp has no such order among the ways: there the leftmost pair comes first.)
    init(scores: [Float], tokens: [String], kinds: [TokenKind], table: TokenTable) throws(FormatError) {
        guard scores.count == tokens.count, scores.allSatisfy(\.isFinite) else {
            throw FormatError(
                "tokenizer.ggml.scores has \(scores.count) elements for \(tokens.count) tokens, or one that is not "
                    + "finite; convert the model again")
        }
        var candidates: [Candidate] = []
        for (id, token) in tokens.enumerated() where kinds[id] == .normal {
            guard token.utf8.count <= Self.longestToken else {
                throw FormatError(
                    "tokenizer.ggml.tokens[\(id)] has \(token.utf8.count) bytes; the limit is \(Self.longestToken)")
            }
            guard table.id(of: token) == Int32(id) else { continue }
            Self.appendDivisions(of: token, id: id, score: scores[id], kinds: kinds, table: table, to: &candidates)
        }
        candidates.sort { one, other in
            (other.score, other.leftLength, other.rightLength, one.result)
                < (one.score, one.leftLength, one.rightLength, other.result)
        }
        for candidate in candidates { append(candidate.left, candidate.right, result: candidate.result) }
    }

    private static func appendDivisions(
        of token: String, id: Int, score: Float, kinds: [TokenKind], table: TokenTable, to candidates: inout [Candidate]
    ) {
        var token = token
        token.withUTF8 { bytes in
            let bytes = UnsafeRawBufferPointer(bytes)
            let starts = bytes.indices.filter { bytes[$0] & 0xC0 != 0x80 }
            for (count, start) in starts.enumerated().dropFirst() {
                guard
                    let left = table.id(of: UnsafeRawBufferPointer(rebasing: bytes[..<start])),
                    let right = table.id(of: UnsafeRawBufferPointer(rebasing: bytes[start...])),
                    kinds[Int(left)] == .normal, kinds[Int(right)] == .normal
                else { continue }
                candidates.append(
                    Candidate(
                        score: score, left: left, right: right, result: Int32(id), leftLength: count,
                        rightLength: starts.count - count))
            }
        }
    }
}
