internal import Crypto
internal import LoRAFormats

/// The examples of one JSONL file, ready to train on or to evaluate with.
public struct Dataset: Sendable {
    /// The parts of a data set, one file each.
    public enum Split: String, Sendable, CaseIterable {
        case train, valid, test
    }

    /// A row that was left out, and why.
    public struct Skip: Sendable, Equatable {
        public enum Reason: Sendable, Equatable {
            /// More tokens than `--max-length` allows.
            case tooLong(tokens: Int, limit: Int)
            /// No token of an answer.
            case nothingSupervised
        }

        /// Counted from 1.
        public let line: Int
        public let reason: Reason
    }

    /// The file's path.
    public let path: String
    public let form: RowForm
    /// In the order of the file.
    public let examples: [Example]
    /// What exact match asks, in the order of the file; empty for the form `text`.
    public let questions: [Question]
    /// Rows that were left out, in the order of the file.
    public let skips: [Skip]
    /// SHA-256 of the file's bytes, 64 hexadecimal digits.
    public let digest: String
    /// Whether it is the base's context that rows were too long for.
    private let isLimitedByContext: Bool

    /// Tokens of all examples.
    public var tokenCount: Int { examples.reduce(0) { $0 + $1.tokens.count } }
    /// Supervised positions of all examples.
    public var supervisedCount: Int { examples.reduce(0) { $0 + $1.supervisedCount } }

    /// Reads and encodes all rows of the JSONL file at `path`.
    /// - Throws: `TrainingDataError` that lists every bad line, or says why the file cannot be read.
    public init(path: String, encoder: ExampleEncoder) throws {
        let bytes: [UInt8]
        do {
            // A copy: a file that someone shortens while it is read would otherwise take the process with it.
            bytes = try MappedFile.contents(path: path)
        } catch {
            throw TrainingDataError(String(describing: error))
        }
        try self.init(bytes: bytes, path: path, encoder: encoder)
    }

    /// As `init(path:encoder:)`, with the bytes of the file.
    init(bytes: [UInt8], path: String, encoder: ExampleEncoder) throws {
        self.path = path
        digest = SHA256.hash(data: bytes).map { String(UInt16($0) + 256, radix: 16).dropFirst() }.joined()
        var reader = DatasetReader(name: Self.name(of: path), encoder: encoder)
        reader.read(bytes)
        try reader.check()
        guard let form = reader.form else { throw TrainingDataError("\(path): there is no row in the file") }
        self.form = form
        examples = reader.examples
        questions = reader.questions
        skips = reader.skips
        isLimitedByContext = encoder.isLimitedByContext
        guard !examples.isEmpty else {
            throw TrainingDataError("\(path): no row is left to use. " + warnings.joined(separator: " "))
        }
    }

    private static func name(of path: String) -> String {
        path.split(separator: "/").last.map(String.init) ?? path
    }

    /// The longest list of lines that an error or a warning prints.
    static let listed = 20

    /// One line for each reason that rows were left out for: how many, which lines, what to do.
    public var warnings: [String] {
        let name = Self.name(of: path)
        let long = skips.compactMap { skip in
            if case .tooLong(let tokens, _) = skip.reason { (skip.line, tokens) } else { nil }
        }
        let limit = skips.lazy.compactMap { skip in
            if case .tooLong(_, let limit) = skip.reason { limit } else { nil }
        }.first
        var lines: [String] = []
        if let limit {
            let list = Self.list(long.map { "\($0.0) (\($0.1))" })
            lines.append(
                "\(name): \(Self.rows(long.count)) over the limit of \(limit) tokens skipped, line (tokens): \(list). "
                    + (isLimitedByContext
                        ? "It is the base's context: split them, or use another base."
                        : "Raise --max-length to use them."))
        }
        let empty = skips.filter { $0.reason == .nothingSupervised }.map { String($0.line) }
        if !empty.isEmpty {
            lines.append(
                "\(name): \(Self.rows(empty.count)) without an answer to learn from skipped, line: \(Self.list(empty)). "
                    + "Give them an answer, or remove them.")
        }
        return lines
    }

    static func rows(_ count: Int) -> String { count == 1 ? "1 row" : "\(count) rows" }

    static func list(_ items: [String], separator: String = ", ") -> String {
        let shown = items.prefix(listed).joined(separator: separator)
        return items.count > listed ? "\(shown)\(separator)and \(items.count - listed) more" : shown
    }
}
