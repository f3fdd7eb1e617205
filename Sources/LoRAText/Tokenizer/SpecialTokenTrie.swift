import LoRAFormats

/// Finds special tokens in text: leftmost first, and the longest of those that start at one place.
struct SpecialTokenTrie: Sendable {
    /// Longer texts are refused: a scan costs at most this many steps per byte, whatever the file says.
    static let longestText = 1024

    /// Child nodes by `node << 8 | byte`; node 0 is the root.
    private var edges: [Int: Int] = [:]
    /// The token that ends at a node, or -1.
    private var ids: [Int32] = [-1]
    /// Whether any token starts with a byte: lets the scan pass over ordinary text.
    private var starts = [Bool](repeating: false, count: 256)

    /// - Throws: `FormatError` when the text of the token is too long.
    mutating func insert(_ text: String, id: Int32) throws(FormatError) {
        guard text.utf8.count <= Self.longestText else {
            throw FormatError(
                "tokenizer.ggml.tokens[\(id)] is a special token of \(text.utf8.count) bytes; "
                    + "the limit is \(Self.longestText); convert the model again")
        }
        guard let first = text.utf8.first else { return }
        starts[Int(first)] = true
        var node = 0
        for byte in text.utf8 {
            let edge = node << 8 | Int(byte)
            if let child = edges[edge] {
                node = child
            } else {
                node = ids.count
                edges[edge] = node
                ids.append(-1)
            }
        }
        if ids[node] < 0 { ids[node] = id }
    }

    /// The next special token at or after `start`.
    func next(in text: UnsafeRawBufferPointer, from start: Int) -> (id: Int32, range: Range<Int>)? {
        var position = start
        while position < text.count {
            if starts[Int(text[position])], let match = longest(in: text, at: position) {
                return (match.id, position..<match.end)
            }
            position += 1
        }
        return nil
    }

    private func longest(in text: UnsafeRawBufferPointer, at start: Int) -> (id: Int32, end: Int)? {
        var node = 0
        var best: (id: Int32, end: Int)?
        var position = start
        while position < text.count, let child = edges[node << 8 | Int(text[position])] {
            node = child
            position += 1
            if ids[node] >= 0 { best = (ids[node], position) }
        }
        return best
    }
}
