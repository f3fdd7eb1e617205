/// Merges the bytes of one word at a time into tokens: Sennrich et al., arXiv 1508.07909, on bytes.
///
/// Candidates wait in a binary heap, best rank first and leftmost first among equals, and symbols in a linked list,
/// so a word of n bytes costs O(n log n). Buffers are kept from word to word.
struct BytePairMerger {
    private struct Symbol {
        /// -1 when the symbol has been merged into the one before it.
        var id: Int32
        var previous: Int32
        var next: Int32
        var start: Int32
        var end: Int32
    }

    private struct Candidate {
        /// Rank in the upper half, index of the left symbol in the lower.
        var order: UInt64
        /// The pair as it was; when the symbols have changed since, the candidate is void.
        var pair: UInt64
    }

    private let vocabulary: Vocabulary
    private let longestWord: Int
    private var symbols: [Symbol] = []
    private var heap: [Candidate] = []

    /// A word longer than `longestWord` bytes is cut into pieces of that size, so that memory stays bounded (about 60
    /// bytes for each byte of a word) and positions fit 32 bits.
    init(_ vocabulary: Vocabulary, longestWord: Int = 4 << 20) {
        self.vocabulary = vocabulary
        self.longestWord = longestWord
    }

    /// Appends the tokens of `word`, whose first byte is at `offset` in the text.
    ///
    /// A byte for which the model has no token is left out, as in Hugging Face's tokenizers; its neighbours then are
    /// neighbours of each other.
    mutating func append(_ word: UnsafeBufferPointer<UInt8>, offset: Int, to output: inout TokenSink) {
        var start = 0
        while start < word.count {
            let end = min(word.count, start + longestWord)
            merge(UnsafeBufferPointer(rebasing: word[start..<end]))
            for symbol in symbols where symbol.id >= 0 {
                output.append(symbol.id, offset + start + Int(symbol.start)..<offset + start + Int(symbol.end))
            }
            start = end
        }
    }

    private mutating func merge(_ word: UnsafeBufferPointer<UInt8>) {
        symbols.removeAll(keepingCapacity: true)
        for (position, byte) in word.enumerated() {
            let id = vocabulary.byteTokens[Int(byte)]
            guard id >= 0 else { continue }
            let index = Int32(symbols.count)
            let start = Int32(position)
            symbols.append(Symbol(id: id, previous: index - 1, next: index + 1, start: start, end: start + 1))
        }
        guard symbols.count > 1 else { return }
        symbols[symbols.count - 1].next = -1
        for index in 0..<symbols.count - 1 { propose(index) }
        while let candidate = popBest() { apply(candidate) }
    }

    /// Puts the pair that starts at `left` among the candidates, if it is one that merges.
    private mutating func propose(_ left: Int) {
        let right = Int(symbols[left].next)
        let pair = Vocabulary.pairKey(symbols[left].id, symbols[right].id)
        guard let rank = vocabulary.ranks[pair] else { return }
        push(Candidate(order: UInt64(UInt32(bitPattern: rank)) << 32 | UInt64(left), pair: pair))
    }

    private mutating func apply(_ candidate: Candidate) {
        let left = Int(candidate.order & 0xFFFF_FFFF)
        let right = Int(symbols[left].next)
        guard symbols[left].id >= 0, right >= 0,
            Vocabulary.pairKey(symbols[left].id, symbols[right].id) == candidate.pair
        else { return }
        symbols[left].id = vocabulary.results[Int(candidate.order >> 32)]
        symbols[left].end = symbols[right].end
        symbols[left].next = symbols[right].next
        symbols[right].id = -1
        let next = Int(symbols[left].next)
        if next >= 0 {
            symbols[next].previous = Int32(left)
            propose(left)
        }
        let previous = Int(symbols[left].previous)
        if previous >= 0 { propose(previous) }
    }

    private mutating func push(_ candidate: Candidate) {
        heap.append(candidate)
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            if heap[parent].order <= candidate.order { break }
            heap[child] = heap[parent]
            child = parent
        }
        heap[child] = candidate
    }

    private mutating func popBest() -> Candidate? {
        guard let best = heap.first, let last = heap.popLast() else { return nil }
        if heap.isEmpty { return best }
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count && heap[child + 1].order < heap[child].order { child += 1 }
            if last.order <= heap[child].order { break }
            heap[parent] = heap[child]
            parent = child
        }
        heap[parent] = last
        return best
    }
}

/// Where tokens go: their ids and, when asked for, the bytes of the text that each covers.
struct TokenSink {
    var ids: [Int32] = []
    var ranges: [Range<Int>] = []
    let wantsRanges: Bool

    mutating func append(_ id: Int32, _ range: Range<Int>) {
        ids.append(id)
        if wantsRanges { ranges.append(range) }
    }
}
