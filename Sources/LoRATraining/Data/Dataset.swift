internal import Foundation
internal import LoRAFormats
internal import LoRAModel

/// The examples of one JSONL file, ready to train on or to evaluate with. They are in a token file, not in memory.
public struct Dataset: Sendable {
    /// The parts of a data set, one file each.
    public enum Split: String, Sendable, CaseIterable {
        case train, valid, test
    }

    /// The file's path.
    public let path: String
    /// SHA-256 of the file's bytes, 64 hexadecimal digits.
    public let digest: String
    /// In the order of the file.
    public let examples: Examples
    /// Tokens of all examples.
    public let tokenCount: Int
    /// Supervised positions of all examples.
    public let supervisedCount: Int
    /// Rows that were left out; none of examples that are held out of others.
    public let skips: Skips
    /// Why the examples will be read again next time, if they are many.
    private let cacheWarning: String?
    /// Tokens that a row may have, and whether it is the base's context that rows are too long for.
    private let limit: (tokens: Int, isContext: Bool)

    private var file: TokenFile { examples.file }
    public var form: RowForm { file.summary.form }
    /// Rows that the longest example takes in a batch.
    public var longestRows: Int { file.summary.tally.longestRows }

    /// Reads and encodes all rows of the JSONL file at `path`, or takes what an earlier run made of the same bytes.
    /// - Parameters:
    ///   - cache: where token files are kept; nil for nowhere.
    ///   - progress: told now and then, while rows are encoded, the file's name and the share of it that is done.
    /// - Throws: `TrainingDataError` that lists bad lines, or says why the file cannot be read.
    public init(
        path: String, encoder: ExampleEncoder, cache: TokenCache? = .standard,
        progress: (_ name: String, _ share: Double) -> Void = { _, _ in }
    ) throws {
        do {
            try self.init(
                source: OpenFile(path: path), path: path, encoder: encoder, cache: cache, progress: progress)
        } catch let error as FormatError {
            throw TrainingDataError(error.file == nil ? "\(path): \(error)" : String(describing: error))
        }
    }

    private init(
        source: consuming OpenFile, path: String, encoder: ExampleEncoder, cache: TokenCache?,
        progress: (String, Double) -> Void
    ) throws {
        self.path = path
        guard source.state.size > 0 else { throw FormatError("the file is empty (0 bytes)", file: path) }
        let cache = cache.flatMap { source.state.size >= $0.smallest ? $0 : nil }
        digest = try cache?.digest(of: source) ?? TokenCache.computeDigest(of: source)
        limit = (encoder.maximumLength, encoder.isLimitedByContext)
        let made = try Self.tokens(
            of: source, digest: digest, path: path, encoder: encoder, cache: cache, progress: progress)
        cacheWarning = made.warning
        let tally = made.file.summary.tally
        examples = Examples(file: made.file)
        (tokenCount, supervisedCount, skips) = (tally.tokens, tally.supervised, tally.skips)
        guard tally.examples > 0 else {
            throw TrainingDataError("\(path): no row is left to use. " + warnings.joined(separator: " "))
        }
    }

    /// Those of `whole`'s examples that are at `selection`.
    /// - Parameter isHeldOut: what is to say about the file is then said with the other part.
    init(_ whole: Dataset, selection: [UInt32], tokenCount: Int, supervisedCount: Int, isHeldOut: Bool) {
        (path, digest, limit) = (whole.path, whole.digest, whole.limit)
        (cacheWarning, skips) = isHeldOut ? (nil, Skips()) : (whole.cacheWarning, whole.skips)
        examples = Examples(file: whole.file, selection: selection)
        (self.tokenCount, self.supervisedCount) = (tokenCount, supervisedCount)
    }

    private static func tokens(
        of source: borrowing OpenFile, digest: String, path: String, encoder: ExampleEncoder, cache: TokenCache?,
        progress: (String, Double) -> Void
    ) throws -> (file: TokenFile, warning: String?) {
        var warning: String?
        if let cache, let identity = encoder.identity {
            let key = TokenCache.key(digest: digest, encoder: identity)
            if let file = cache.tokenFile(key) { return (file, nil) }
            do {
                try cache.prepare()
                let file = try encode(
                    source, path: path, encoder: encoder, in: cache.directory, key: key,
                    keepingAs: cache.path(of: key), progress: progress)
                cache.noteWritten(key, file)
                return (file, nil)
            } catch let error as FormatError {
                warning = "\(name(of: path)): its tokens cannot be kept for the next run: \(error)"
            }
        }
        let file = try encode(
            source, path: path, encoder: encoder, in: FileManager.default.temporaryDirectory.path, key: "",
            keepingAs: nil, progress: progress)
        return (file, warning)
    }

    static func name(of path: String) -> String {
        path.split(separator: "/").last.map(String.init) ?? path
    }
}

extension Dataset {
    /// One line for each reason that rows were left out for: how many, which lines, what to do.
    public var warnings: [String] {
        let name = Self.name(of: path)
        var lines = cacheWarning.map { [$0] } ?? []
        if skips.tooLong.count > 0 {
            let list = skips.tooLong.list { "\($0.line) (\($0.tokens))" }
            lines.append(
                "\(name): \(Self.rows(skips.tooLong.count)) over the limit of \(limit.tokens) tokens skipped, "
                    + "line (tokens): \(list). "
                    + (limit.isContext
                        ? "It is the base's context: split them, or use another base."
                        : "Raise --max-length to use them."))
        }
        if skips.withoutAnswer.count > 0 {
            lines.append(
                "\(name): \(Self.rows(skips.withoutAnswer.count)) without an answer to learn from skipped, "
                    + "line: \(skips.withoutAnswer.list { "\($0.line)" }). Give them an answer, or remove them.")
        }
        return lines
    }

    private static func rows(_ count: Int) -> String { count == 1 ? "1 row" : "\(count) rows" }

    /// The longest list of lines that an error or a warning prints.
    static let listed = 20

    /// Rows that were left out, by reason.
    public struct Skips: Codable, Sendable, Equatable {
        public struct Row: Codable, Sendable, Equatable {
            /// Counted from 1.
            public let line: Int
            public let tokens: Int
        }

        public struct Rows: Codable, Sendable, Equatable {
            public private(set) var count = 0
            /// The first ones, in the order of the file.
            public private(set) var first: [Row] = []

            mutating func append(line: Int, tokens: Int) {
                count += 1
                if first.count < Dataset.listed { first.append(Row(line: line, tokens: tokens)) }
            }

            mutating func append(_ other: Rows) {
                count += other.count
                first += other.first.prefix(Dataset.listed - first.count)
            }

            func list(_ describe: (Row) -> String) -> String {
                let shown = first.map(describe).joined(separator: ", ")
                return count > first.count ? "\(shown), and \(count - first.count) more" : shown
            }
        }

        /// More tokens than `--max-length` or the base's context allows.
        public internal(set) var tooLong = Rows()
        /// No token of an answer.
        public internal(set) var withoutAnswer = Rows()

        public var count: Int { tooLong.count + withoutAnswer.count }

        mutating func append(_ other: Skips) {
            tooLong.append(other.tooLong)
            withoutAnswer.append(other.withoutAnswer)
        }
    }
}
