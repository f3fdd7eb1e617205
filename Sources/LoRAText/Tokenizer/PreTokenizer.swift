import LoRAFormats

/// How a model cuts text into words before BPE merges within each of them.
///
/// Every pattern here matches at every character, so words lie end to end and no byte is lost.
package struct PreTokenizer: Sendable {
    package enum Kind: Sendable {
        case smollm, gpt2
        /// Llama 3 and Qwen 2; the repetition tells how many digits stay together.
        case digitRuns(String)
    }

    package let kind: Kind
    let pattern: Pattern
    /// Whether a word that is a token as a whole stays one, whatever the merges say (Llama 3).
    package let ignoresMerges: Bool
    /// Whether text is brought into Unicode's normal form C first.
    package let normalizes: Bool
    /// Whether models with this pre-tokenizer want BOS when the file does not say.
    let addsBOS: Bool

    static let supportedNames = ["smollm", "gpt-2", "llama-bpe", "qwen2"]

    /// - Throws: `FormatError` that names an unknown pre-tokenizer and the supported ones.
    init(named name: String) throws(FormatError) {
        switch name {
        case "smollm": self = try PreTokenizer(.smollm)
        case "gpt-2": self = try PreTokenizer(.gpt2)
        case "llama-bpe", "llama3", "llama-v3":
            self = try PreTokenizer(.digitRuns("{1,3}"), ignoresMerges: true, addsBOS: true)
        case "qwen2": self = try PreTokenizer(.digitRuns(""), normalizes: true)
        case "deepseek-r1-qwen": self = try PreTokenizer(.digitRuns(""))
        default:
            throw FormatError(
                "tokenizer.ggml.pre is \(quoted(name)); supported are \(Self.supportedNames.joined(separator: ", ")); "
                    + "another cutting of words would give the model ids it was not trained on")
        }
    }

    private init(
        _ kind: Kind, ignoresMerges: Bool = false, normalizes: Bool = false, addsBOS: Bool = false
    ) throws(FormatError) {
        self.kind = kind
        pattern =
            switch kind {
            case .smollm: try Pattern(Self.smollm)
            case .gpt2: try Pattern(Self.gpt2)
            case .digitRuns(let repetition): try Pattern(Self.withDigitRuns(repetition))
            }
        self.normalizes = normalizes
        self.ignoresMerges = ignoresMerges
        self.addsBOS = addsBOS
    }
}

extension PreTokenizer {
    /// GPT-2: contractions, then words, numbers and the rest, each with one space before it; then white space, whose
    /// last character stays with the word after it.
    private static let gpt2 =
        "'s|'t|'re|'ve|'m|'ll|'d| ?[\(letter)]+| ?[\(number)]+| ?[^\(space)\(letter)\(number)]+"
        + "|[\(space)]+(?![^\(space)])|[\(space)]+"

    /// SmolLM: each digit is cut out first, then the GPT-2 pattern sees what is between digits. One pattern does both
    /// if a digit ends white space as the end of the text does.
    private static let smollm =
        "'s|'t|'re|'ve|'m|'ll|'d|[\(digit)]| ?[\(letter)]+| ?[^\(space)\(letter)\(digit)]+"
        + "|[\(space)]+(?![^\(space)\(digit)])|[\(space)]+"

    /// Llama 3 (`{1,3}`) and Qwen 2 (one digit): line ends get words of their own.
    ///
    /// Published as `\s*[\r\n]+` for white space up to the last line end of a run; the possessive form finds the same
    /// without going back over the run, so that its cost is linear in one pass.
    private static func withDigitRuns(_ repetition: String) -> String {
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\(letter)\(number)]?[\(letter)]+|[\(number)]\(repetition)"
            + "| ?[^\(space)\(letter)\(number)]+[\\r\\n]*|(?:[\(spaceInLine)]*+[\\r\\n]++)++"
            + "|[\(space)]+(?![^\(space)])|[\(space)]+"
    }

    /// Unicode's White_Space, as Oniguruma's `\s` has it; PCRE2's also has U+180E.
    private static let space = "\\t-\\r" + spaceBeyondControls
    private static let spaceInLine = "\\t\\x0B\\x0C" + spaceBeyondControls
    private static let spaceBeyondControls =
        "\\x20\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"

    /// `\p{L}` and `\p{N}` of Unicode 16, which Hugging Face's tokenizers use: PCRE2's own tables, plus what later
    /// versions than Unicode 14 added, so that ids do not depend on the version of the system's library.
    private static let letter = "\\p{L}" + members(addedLetters)
    private static let number = "\\p{N}" + members(addedNumbers)
    /// The rule that cuts out single digits is at Unicode 17.
    private static let digit = number + members([(0x11DE0, 0x11DE9), (0x16FF4, 0x16FF6)])

    private static func members(_ ranges: [(UInt32, UInt32)]) -> String {
        ranges.map { "\\x{\(String($0.0, radix: 16))}-\\x{\(String($0.1, radix: 16))}" }.joined()
    }

    private static let addedLetters: [(UInt32, UInt32)] = [
        (0x1C89, 0x1C8A), (0xA7CB, 0xA7CD), (0xA7DA, 0xA7DC), (0x105C0, 0x105F3), (0x10D4A, 0x10D65),
        (0x10D6F, 0x10D85), (0x10EC2, 0x10EC4), (0x1123F, 0x11240), (0x11380, 0x11389), (0x1138B, 0x1138B),
        (0x1138E, 0x1138E), (0x11390, 0x113B5), (0x113B7, 0x113B7), (0x113D1, 0x113D1), (0x113D3, 0x113D3),
        (0x11BC0, 0x11BE0), (0x11F02, 0x11F02), (0x11F04, 0x11F10), (0x11F12, 0x11F33), (0x1342F, 0x1342F),
        (0x13441, 0x13446), (0x13460, 0x143FA), (0x16100, 0x1611D), (0x16D40, 0x16D6C), (0x18CFF, 0x18CFF),
        (0x1B132, 0x1B132), (0x1B155, 0x1B155), (0x1DF25, 0x1DF2A), (0x1E030, 0x1E06D), (0x1E4D0, 0x1E4EB),
        (0x1E5D0, 0x1E5ED), (0x1E5F0, 0x1E5F0), (0x2B739, 0x2B739), (0x2EBF0, 0x2EE5D), (0x31350, 0x323AF),
    ]

    private static let addedNumbers: [(UInt32, UInt32)] = [
        (0x10D40, 0x10D49), (0x116D0, 0x116E3), (0x11BF0, 0x11BF9), (0x11F50, 0x11F59), (0x16130, 0x16139),
        (0x16D70, 0x16D79), (0x1CCF0, 0x1CCF9), (0x1D2C0, 0x1D2D3), (0x1E4F0, 0x1E4F9), (0x1E5F1, 0x1E5FA),
    ]
}
