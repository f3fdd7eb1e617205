internal import LoRAFormats

/// What the rows of some lines became: records for a token file, and what was skipped or wrong.
struct EncodedRows {
    /// Records end to end, as `TokenFile` has them.
    private(set) var words: [UInt32] = []
    /// Of each record: the word it begins at, and the hash of its row.
    private(set) var entries: [(start: Int, hash: UInt64)] = []
    private(set) var tally = TokenFile.Tally()
    /// What is wrong with all rows alike; nothing is read after it.
    private(set) var refusal: TrainingDataError?
    private(set) var errors = ErrorList()
    private(set) var rowCount = 0

    let encoder: ExampleEncoder
    let fileName: String
    /// Nil until a row is found that has one.
    let form: RowForm?

    init(encoder: ExampleEncoder, fileName: String, form: RowForm?) {
        self.encoder = encoder
        self.fileName = fileName
        self.form = form
    }

    /// The form of the first row that has one.
    static func form(of lines: UnsafeRawBufferPointer) -> RowForm? {
        var form: RowForm?
        LinePieces.forEachRow(of: lines, firstLine: 1) { text, _ in
            form = (try? JSONValue(parsing: text)).flatMap { try? RowForm.detect(in: $0) }
            return form == nil
        }
        return form
    }

    /// Encodes what lines hold that are not blank.
    mutating func read(_ lines: UnsafeRawBufferPointer, firstLine: Int) {
        LinePieces.forEachRow(of: lines, firstLine: firstLine) { text, line in
            read(text, line: line)
            return refusal == nil
        }
    }

    /// Notes a line that is too long to be read.
    mutating func refuse(line: Int, byteCount: Int) {
        rowCount += 1
        let reason = "the line has \(byteCount) bytes; the longest that is read has \(LinePieces.longestLine)"
        errors.append("\(fileName):\(line): \(reason)")
    }

    private mutating func read(_ text: UnsafeRawBufferPointer, line: Int) {
        guard text.count <= LinePieces.longestLine else { return refuse(line: line, byteCount: text.count) }
        rowCount += 1
        do {
            let value = try JSONValue(parsing: text)
            let row = try DatasetRow(value, form: form ?? RowForm.detect(in: value))
            let examples = try encoder.examples(of: row, line: line)
            let longest = examples.reduce(0) { max($0, $1.tokens.count) }
            if longest > encoder.maximumLength {
                tally.skips.tooLong.append(line: line, tokens: longest)
            } else if examples.contains(where: { $0.supervisedCount == 0 }) {
                tally.skips.withoutAnswer.append(line: line, tokens: longest)
            } else {
                let question = try encoder.asksQuestions ? encoder.question(of: row, line: line) : nil
                for example in examples { append(example, question) }
            }
        } catch let error as TrainingDataError {
            refusal = TrainingDataError("\(fileName):\(line): \(error.message)")
        } catch {
            errors.append("\(fileName):\(line): \(Self.oneLine(String(describing: error)))")
        }
    }

    private mutating func append(_ example: Example, _ question: Question?) {
        let record = TokenFile.record(example, question)
        entries.append((words.count, record.hash))
        words += record.words
        tally.count(example, asks: question != nil)
    }

    /// A template may say anything when it refuses a row; an error stays in its line.
    private static func oneLine(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 32 ? " " : $0 }))
    }
}

/// What is wrong with rows: the first ones in words, the others counted.
struct ErrorList {
    private(set) var count = 0
    private(set) var first: [String] = []

    mutating func append(_ error: String) {
        count += 1
        if first.count < Dataset.listed { first.append(error) }
    }

    mutating func append(_ other: ErrorList) {
        count += other.count
        first += other.first.prefix(Dataset.listed - first.count)
    }
}
