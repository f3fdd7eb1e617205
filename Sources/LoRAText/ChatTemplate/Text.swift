/// A string as Python sees it: a sequence of Unicode scalars, indexed, ordered and compared one by one.
///
/// Swift's `String` counts grapheme clusters and equates canonical equivalents, so a template that slices or
/// compares would render differently.
struct Text: Sendable {
    var scalars: [Unicode.Scalar]
    /// Marked as HTML by `safe` or `escape`: joining it with other text escapes that text.
    var isMarkup = false

    init(_ scalars: [Unicode.Scalar], isMarkup: Bool = false) {
        self.scalars = scalars
        self.isMarkup = isMarkup
    }

    init(_ slice: ArraySlice<Unicode.Scalar>) { scalars = Array(slice) }

    init(_ string: String) { scalars = Array(string.unicodeScalars) }

    var count: Int { scalars.count }
    var isEmpty: Bool { scalars.isEmpty }

    var string: String {
        var view = String.UnicodeScalarView()
        view.append(contentsOf: scalars)
        return String(view)
    }
}

extension Text: Hashable, Comparable {
    static func == (left: Text, right: Text) -> Bool { left.scalars == right.scalars }

    func hash(into hasher: inout Hasher) {
        scalars.withUnsafeBytes { hasher.combine(bytes: $0) }
    }

    static func < (left: Text, right: Text) -> Bool { left.scalars.lexicographicallyPrecedes(right.scalars) }
}

extension Unicode.Scalar {
    /// What `str.isspace`, `str.strip` and the regular expression `\s` take for white space.
    var isPythonSpace: Bool {
        switch value {
        case 0x09...0x0D, 0x1C...0x20, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000:
            true
        default: false
        }
    }

    /// What `str.splitlines` splits at.
    var isPythonLineBreak: Bool {
        switch value {
        case 0x0A...0x0D, 0x1C...0x1E, 0x85, 0x2028, 0x2029: true
        default: false
        }
    }

    var isPythonAlphabetic: Bool {
        switch properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
        default: false
        }
    }

    var isPythonAlphanumeric: Bool { isPythonAlphabetic || properties.numericType != nil }

    /// Whether `repr` shows the scalar itself, not an escape.
    var isPythonPrintable: Bool {
        switch properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator: false
        case .spaceSeparator: value == 0x20
        default: true
        }
    }
}

extension Text {
    /// Index of the first occurrence of `needle` at or after `start`, in time linear in both (Knuth, Morris, Pratt).
    func firstIndex(of needle: [Unicode.Scalar], from start: Int = 0) -> Int? {
        guard start + needle.count <= scalars.count else { return nil }
        guard let head = needle.first else { return start }
        if needle.count == 1 { return scalars[start...].firstIndex(of: head) }
        let table = Text.failureTable(needle)
        var matched = 0
        for index in start..<scalars.count {
            while matched > 0 && scalars[index] != needle[matched] { matched = table[matched - 1] }
            if scalars[index] == needle[matched] { matched += 1 }
            if matched == needle.count { return index + 1 - matched }
        }
        return nil
    }

    /// Indices of all occurrences that do not overlap, at most `limit` of them.
    func indices(of needle: [Unicode.Scalar], limit: Int = .max) -> [Int] {
        guard let head = needle.first, limit > 0 else { return [] }
        var found: [Int] = []
        if needle.count == 1 {
            for index in scalars.indices where scalars[index] == head {
                found.append(index)
                if found.count == limit { break }
            }
            return found
        }
        let table = Text.failureTable(needle)
        var matched = 0
        for index in scalars.indices {
            while matched > 0 && scalars[index] != needle[matched] { matched = table[matched - 1] }
            if scalars[index] == needle[matched] { matched += 1 }
            guard matched == needle.count else { continue }
            found.append(index + 1 - matched)
            if found.count == limit { break }
            matched = 0
        }
        return found
    }

    private static func failureTable(_ needle: [Unicode.Scalar]) -> [Int] {
        var table = [Int](repeating: 0, count: needle.count)
        var length = 0
        for index in 1..<needle.count {
            while length > 0 && needle[index] != needle[length] { length = table[length - 1] }
            if needle[index] == needle[length] { length += 1 }
            table[index] = length
        }
        return table
    }

    func hasPrefix(_ other: Text) -> Bool { scalars.starts(with: other.scalars) }

    func hasSuffix(_ other: Text) -> Bool {
        count >= other.count && scalars[(count - other.count)...].elementsEqual(other.scalars)
    }

    /// Without white space, or without any of `characters`, at the ends asked for.
    func stripped(_ characters: Text? = nil, leading: Bool = true, trailing: Bool = true) -> Text {
        let set = characters.map { Set($0.scalars) }
        func drops(_ scalar: Unicode.Scalar) -> Bool { set?.contains(scalar) ?? scalar.isPythonSpace }
        var lower = 0
        var upper = scalars.count
        if leading { while lower < upper && drops(scalars[lower]) { lower += 1 } }
        if trailing { while upper > lower && drops(scalars[upper - 1]) { upper -= 1 } }
        return Text(scalars[lower..<upper])
    }

    /// Lines as `str.splitlines` makes them.
    func lines(keepingEnds: Bool = false) -> [Text] {
        var lines: [Text] = []
        var start = 0
        var index = 0
        while index < scalars.count {
            guard scalars[index].isPythonLineBreak else {
                index += 1
                continue
            }
            let end = index
            index += scalars[index] == "\r" && index + 1 < scalars.count && scalars[index + 1] == "\n" ? 2 : 1
            lines.append(Text(scalars[start..<(keepingEnds ? index : end)]))
            start = index
        }
        if start < scalars.count { lines.append(Text(scalars[start...])) }
        return lines
    }
}
