/// One call of `encode`: the way from bytes over special tokens, well-formed UTF-8 and words to ids.
struct EncodingSession: ~Copyable {
    private let vocabulary: Vocabulary
    private let ignoresMerges: Bool
    private let matcher: Matcher
    private var merger: BytePairMerger
    private var wordText: [UInt8] = []
    private(set) var output: TokenSink

    init(_ vocabulary: Vocabulary, _ preTokenizer: PreTokenizer, wantsRanges: Bool) {
        self.vocabulary = vocabulary
        ignoresMerges = preTokenizer.ignoresMerges
        matcher = Matcher(preTokenizer.pattern)
        merger = BytePairMerger(vocabulary)
        output = TokenSink(wantsRanges: wantsRanges)
    }

    mutating func encode(_ text: UnsafeRawBufferPointer, parsingSpecial: Bool) {
        let trie = parsingSpecial ? vocabulary.specialTrie : vocabulary.userDefinedTrie
        var position = 0
        while let special = trie.next(in: text, from: position) {
            encodeUnchecked(text, position..<special.range.lowerBound)
            output.append(special.id, special.range)
            position = special.range.upperBound
        }
        encodeUnchecked(text, position..<text.count)
    }

    /// Text without special tokens, that may not be UTF-8.
    private mutating func encodeUnchecked(_ text: UnsafeRawBufferPointer, _ range: Range<Int>) {
        var position = range.lowerBound
        while position < range.upperBound {
            let rest = UnsafeRawBufferPointer(rebasing: text[position..<range.upperBound])
            let invalid = UTF8Check.firstInvalid(in: rest)
            encodeValid(text, position..<position + invalid.lowerBound)
            for offset in position + invalid.lowerBound..<position + invalid.upperBound {
                let id = vocabulary.byteTokens[Int(text[offset])]
                if id >= 0 { output.append(id, offset..<offset + 1) }
            }
            position += invalid.upperBound
        }
    }

    /// Well-formed UTF-8, word by word.
    private mutating func encodeValid(_ text: UnsafeRawBufferPointer, _ range: Range<Int>) {
        guard !range.isEmpty else { return }
        UnsafeRawBufferPointer(rebasing: text[range]).withMemoryRebound(to: UInt8.self) { part in
            var start = 0
            while start < part.count {
                let end = matcher.endOfMatch(in: part, from: start)
                let word = UnsafeBufferPointer(rebasing: part[start..<end])
                if ignoresMerges, let id = wholeToken(word) {
                    output.append(id, range.lowerBound + start..<range.lowerBound + end)
                } else {
                    merger.append(word, offset: range.lowerBound + start, to: &output)
                }
                start = end
            }
        }
    }

    /// The ordinary token that is `word` as a whole.
    private mutating func wholeToken(_ word: UnsafeBufferPointer<UInt8>) -> Int32? {
        guard word.count <= vocabulary.table.longest else { return nil }
        wordText.removeAll(keepingCapacity: true)
        for byte in word { ByteAlphabet.appendCharacter(of: byte, to: &wordText) }
        let id = wordText.withUnsafeBytes { vocabulary.table.id(of: $0) }
        guard let id, vocabulary.kinds[Int(id)] == .normal else { return nil }
        return id
    }
}

/// Well-formedness of UTF-8 (Unicode, table 3-7).
enum UTF8Check {
    /// The first bytes that are not part of a well-formed character; empty, at the end, when all are.
    static func firstInvalid(in text: UnsafeRawBufferPointer) -> Range<Int> {
        text.withMemoryRebound(to: UInt8.self) { text in
            do throws(UTF8.ValidationError) {
                _ = try UTF8Span(validating: text.span)
                return text.count..<text.count
            } catch {
                return error.byteOffsets
            }
        }
    }
}
