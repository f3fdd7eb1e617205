/// Merges the bytes of one word, or the characters of one part of a text, into tokens: Sennrich et al., arXiv
/// 1508.07909.
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
            symbols.removeAll(keepingCapacity: true)
            for position in start..<end {
                let id = vocabulary.byteTokens[Int(word[position])]
                if id >= 0 { appendSymbol(id, position - start..<position - start + 1) }
            }
            merge(offset: offset + start, to: &output)
            start = end
        }
    }

    /// Appends the tokens of well-formed UTF-8 as SentencePiece has it: characters, or else their bytes, are merged; a
    /// space is "▁".
    mutating func append(
        characters text: UnsafeRawBufferPointer, withPrefix: Bool, offset: Int, to output: inout TokenSink
    ) {
        var start = 0
        repeat {
            var end = min(text.count, start + longestWord)
            while end < text.count && text[end] & 0xC0 == 0x80 { end -= 1 }
            symbols.removeAll(keepingCapacity: true)
            if withPrefix && start == 0, let id = vocabulary.spaceToken { appendSymbol(id, 0..<0) }
            var position = start
            while position < end {
                var next = position + 1
                while next < end && text[next] & 0xC0 == 0x80 { next += 1 }
                appendCharacter(UnsafeRawBufferPointer(rebasing: text[position..<next]), at: position - start)
                position = next
            }
            merge(offset: offset + start, to: &output)
            start = end
        } while start < text.count
    }

    private mutating func appendCharacter(_ bytes: UnsafeRawBufferPointer, at start: Int) {
        let end = start + bytes.count
        if let id = vocabulary.characterToken(bytes) { return appendSymbol(id, start..<end) }
        let first = symbols.count
        for (offset, byte) in bytes.enumerated() {
            let id = vocabulary.byteTokens[Int(byte)]
            guard id >= 0 else {
                symbols.removeLast(symbols.count - first)
                return appendUnknown(start..<end)
            }
            appendSymbol(id, start + offset..<start + offset + 1)
        }
    }

    /// Characters without tokens that follow one another become one unknown token together.
    private mutating func appendUnknown(_ range: Range<Int>) {
        guard let id = vocabulary.unknownID else { return }
        if let last = symbols.indices.last, symbols[last].id == id {
            symbols[last].end = Int32(range.upperBound)
        } else {
            appendSymbol(id, range)
        }
    }

    private mutating func appendSymbol(_ id: Int32, _ range: Range<Int>) {
        let index = Int32(symbols.count)
        symbols.append(
            Symbol(
                id: id, previous: index - 1, next: index + 1, start: Int32(range.lowerBound),
                end: Int32(range.upperBound)))
    }

    private mutating func merge(offset: Int, to output: inout TokenSink) {
        mergeSymbols()
        for symbol in symbols where symbol.id >= 0 {
            output.append(symbol.id, offset + Int(symbol.start)..<offset + Int(symbol.end))
        }
    }

    private mutating func mergeSymbols() {
        guard symbols.count > 1 else { return }
        symbols[symbols.count - 1].next = -1
        for index in 0..<symbols.count - 1 { propose(index) }
        while let candidate = popBest() { apply(candidate) }
    }

    /// Puts the pair that starts at `left` among the candidates, if it is one that merges.
    private mutating func propose(_ left: Int) {
        let right = Int(symbols[left].next)
        let pair = MergeTable.pairKey(symbols[left].id, symbols[right].id)
        guard let rank = vocabulary.merges.ranks[pair] else { return }
        push(Candidate(order: UInt64(UInt32(bitPattern: rank)) << 32 | UInt64(left), pair: pair))
    }

    private mutating func apply(_ candidate: Candidate) {
        let left = Int(candidate.order & 0xFFFF_FFFF)
        let right = Int(symbols[left].next)
        guard symbols[left].id >= 0, right >= 0,
            MergeTable.pairKey(symbols[left].id, symbols[right].id) == candidate.pair
        else { return }
        symbols[left].id = vocabulary.merges.results[Int(candidate.order >> 32)]
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
