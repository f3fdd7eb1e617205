/// One call of `encode`: the way from bytes over special tokens, well-formed UTF-8 and words to ids.
struct EncodingSession: ~Copyable {
    private let vocabulary: Vocabulary
    private let segmentation: Segmentation
    private let matcher: Matcher?
    private var merger: BytePairMerger
    private var wordText: [UInt8] = []
    private(set) var output: TokenSink

    init(_ vocabulary: Vocabulary, _ segmentation: Segmentation, wantsRanges: Bool) {
        self.vocabulary = vocabulary
        self.segmentation = segmentation
        switch segmentation {
        case .words(let preTokenizer): matcher = Matcher(preTokenizer.pattern)
        case .sentencePiece: matcher = nil
        }
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
            let isFirst = position == range.lowerBound
            let rest = UnsafeRawBufferPointer(rebasing: text[position..<range.upperBound])
            let invalid = UTF8Check.firstInvalid(in: rest)
            encodeValid(
                UnsafeRawBufferPointer(rebasing: rest[..<invalid.lowerBound]), offset: position,
                withPrefix: isFirst && needsPrefix(rest, at: position))
            for offset in position + invalid.lowerBound..<position + invalid.upperBound {
                let id = vocabulary.byteTokens[Int(text[offset])]
                if id >= 0 { output.append(id, offset..<offset + 1) }
            }
            position += invalid.upperBound
        }
    }

    private func needsPrefix(_ part: UnsafeRawBufferPointer, at position: Int) -> Bool {
        if case .sentencePiece(let prefix) = segmentation { prefix.applies(to: part, at: position) } else { false }
    }

    /// Well-formed UTF-8, as a whole or word by word.
    private mutating func encodeValid(_ text: UnsafeRawBufferPointer, offset: Int, withPrefix: Bool) {
        switch segmentation {
        case .sentencePiece:
            merger.append(characters: text, withPrefix: withPrefix, offset: offset, to: &output)
        case .words(let preTokenizer):
            guard !text.isEmpty else { return }
            guard preTokenizer.normalizes, let normalized = NormalizedText(text) else {
                return encodeWords(text, ignoringMerges: preTokenizer.ignoresMerges, offset: offset)
            }
            let first = output.ranges.count
            normalized.bytes.withUnsafeBytes {
                encodeWords($0, ignoringMerges: preTokenizer.ignoresMerges, offset: 0)
            }
            for index in output.ranges.indices.dropFirst(first) {
                output.ranges[index] = normalized.origin(of: output.ranges[index], offset: offset)
            }
        }
    }

    private mutating func encodeWords(_ text: UnsafeRawBufferPointer, ignoringMerges: Bool, offset: Int) {
        text.withMemoryRebound(to: UInt8.self) { text in
            var start = 0
            while start < text.count {
                let end = matcher?.endOfMatch(in: text, from: start) ?? text.count
                let word = UnsafeBufferPointer(rebasing: text[start..<end])
                if ignoringMerges, let id = wholeToken(word) {
                    output.append(id, offset + start..<offset + end)
                } else {
                    merger.append(word, offset: offset + start, to: &output)
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

/// How a model cuts text before BPE merges.
package enum Segmentation: Sendable {
    case words(PreTokenizer)
    /// Not at all.
    case sentencePiece(SpacePrefix)
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
