/// A command line as it can be pasted into a shell.
package enum ShellCommand {
    private static let plain = Set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+,./:@%".unicodeScalars)

    /// `words` quoted as sh wants it, an option and its value on a line of their own.
    package static func text(_ words: [String]) -> String {
        var text = ""
        for (index, word) in words.enumerated() {
            let startsOption = index > 0 && word.hasPrefix("--")
            text += (index == 0 ? "" : startsOption ? " \\\n    " : " ") + quoted(word)
        }
        return text
    }

    /// `word` as sh reads it back.
    package static func quoted(_ word: String) -> String {
        if !word.isEmpty, word.unicodeScalars.allSatisfy(plain.contains) { return word }
        return "'" + word.split(separator: "'", omittingEmptySubsequences: false).joined(separator: #"'\''"#) + "'"
    }
}
