import Foundation

/// A text in Unicode's normal form C (UAX 15), which knows where in the original its bytes come from.
struct NormalizedText {
    private(set) var bytes: [UInt8] = []
    /// For each byte, and for the end, the place in the original; it never goes back.
    private var origins: [Int] = []

    /// Nil when `text`, well-formed UTF-8, is in the normal form already.
    init?(_ text: UnsafeRawBufferPointer) {
        let isNormal = text.withMemoryRebound(to: UInt8.self) { text in
            var span = UTF8Span(unchecked: text.span)
            return span.isKnownASCII || span.checkForNFC(quickCheck: false)
        }
        if isNormal { return nil }
        bytes.reserveCapacity(text.count)
        origins.reserveCapacity(text.count + 1)
        var start = 0
        // Composition stays within a character as a reader sees it.
        for character in String(decoding: text, as: UTF8.self) {
            let end = start + character.utf8.count
            for byte in String(character).precomposedStringWithCanonicalMapping.utf8 {
                bytes.append(byte)
                origins.append(min(start, end))
                start += 1
            }
            start = end
        }
        origins.append(start)
    }

    /// The range of the original, which begins at `offset`, that a range of the normal form comes from.
    func origin(of range: Range<Int>, offset: Int) -> Range<Int> {
        offset + origins[range.lowerBound]..<offset + origins[range.upperBound]
    }
}
