extension Text {
    func uppercased() -> Text { Text(scalars.flatMap { $0.properties.uppercaseMapping.unicodeScalars }) }

    func lowercased() -> Text {
        var result: [Unicode.Scalar] = []
        result.reserveCapacity(scalars.count)
        for index in scalars.indices { appendLowercase(at: index, to: &result) }
        return Text(result)
    }

    /// `str.capitalize`: the first scalar in title case, all others in lower case.
    func capitalized() -> Text {
        guard let first = scalars.first else { return self }
        var result = Array(first.properties.titlecaseMapping.unicodeScalars)
        for index in scalars.indices.dropFirst() { appendLowercase(at: index, to: &result) }
        return Text(result)
    }

    /// `str.title`: title case after anything without case, lower case elsewhere.
    func titlecased() -> Text {
        var result: [Unicode.Scalar] = []
        var followsCased = false
        for index in scalars.indices {
            if followsCased {
                appendLowercase(at: index, to: &result)
            } else {
                result.append(contentsOf: scalars[index].properties.titlecaseMapping.unicodeScalars)
            }
            followsCased = scalars[index].properties.isCased
        }
        return Text(result)
    }

    func caseSwapped() -> Text {
        var result: [Unicode.Scalar] = []
        for (index, scalar) in scalars.enumerated() {
            if scalar.properties.isUppercase {
                appendLowercase(at: index, to: &result)
            } else if scalar.properties.isLowercase {
                result.append(contentsOf: scalar.properties.uppercaseMapping.unicodeScalars)
            } else {
                result.append(scalar)
            }
        }
        return Text(result)
    }

    /// Jinja's `title` filter: words begin after white space, hyphens and opening brackets.
    func wordsCapitalized() -> Text {
        func separates(_ scalar: Unicode.Scalar) -> Bool {
            scalar.isPythonSpace || ["-", "(", "{", "[", "<"].contains(scalar)
        }
        var result: [Unicode.Scalar] = []
        var start = 0
        while start < scalars.count {
            let separator = separates(scalars[start])
            var end = start
            while end < scalars.count && separates(scalars[end]) == separator { end += 1 }
            if separator {
                result.append(contentsOf: scalars[start..<end])
            } else {
                result.append(contentsOf: scalars[start].properties.uppercaseMapping.unicodeScalars)
                result.append(contentsOf: Text(scalars[(start + 1)..<end]).lowercased().scalars)
            }
            start = end
        }
        return Text(result)
    }

    var isUppercase: Bool {
        var cased = false
        for scalar in scalars {
            if scalar.properties.isLowercase || scalar.properties.generalCategory == .titlecaseLetter { return false }
            cased = cased || scalar.properties.isUppercase
        }
        return cased
    }

    var isLowercase: Bool {
        var cased = false
        for scalar in scalars {
            if scalar.properties.isUppercase || scalar.properties.generalCategory == .titlecaseLetter { return false }
            cased = cased || scalar.properties.isLowercase
        }
        return cased
    }

    /// Greek capital sigma has another small form at the end of a word (Unicode 3.13, Final_Sigma).
    private func appendLowercase(at index: Int, to result: inout [Unicode.Scalar]) {
        let scalar = scalars[index]
        guard scalar == "\u{3A3}" else {
            result.append(contentsOf: scalar.properties.lowercaseMapping.unicodeScalars)
            return
        }
        let before = scalars[..<index].last { !$0.properties.isCaseIgnorable }
        let after = scalars[(index + 1)...].first { !$0.properties.isCaseIgnorable }
        let final = before?.properties.isCased == true && after?.properties.isCased != true
        result.append(final ? "\u{3C2}" : "\u{3C3}")
    }
}
