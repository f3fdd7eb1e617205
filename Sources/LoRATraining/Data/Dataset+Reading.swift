internal import LoRAFormats

/// Goes through the lines of a JSONL file and collects examples, skipped rows and errors.
struct DatasetReader {
    /// A longer line is refused before it is parsed: no row to train on comes near.
    static let longestLine = 64 << 20

    let name: String
    let encoder: ExampleEncoder
    private(set) var form: RowForm?
    private(set) var examples: [Example] = []
    private(set) var questions: [Question] = []
    private(set) var skips: [Dataset.Skip] = []
    private var errors: [String] = []
    /// What is wrong with all rows alike; nothing is read after it.
    private var refusal: TrainingDataError?
    private var rowCount = 0

    init(name: String, encoder: ExampleEncoder) {
        self.name = name
        self.encoder = encoder
    }

    /// Lines end with LF or CRLF; blank ones are passed over.
    mutating func read(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { buffer in
            var line = 1
            var start = 0
            while start < buffer.count, refusal == nil {
                let end = buffer[start...].firstIndex(of: 0x0A) ?? buffer.count
                let text = UnsafeRawBufferPointer(rebasing: buffer[start..<end])
                if !text.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }) {
                    rowCount += 1
                    read(text, line: line)
                }
                start = end + 1
                line += 1
            }
        }
    }

    private mutating func read(_ text: UnsafeRawBufferPointer, line: Int) {
        do {
            guard text.count <= Self.longestLine else {
                throw FormatError("the line has \(text.count) bytes; the longest that is read has \(Self.longestLine)")
            }
            let value = try JSONValue(parsing: text)
            let form = try self.form ?? RowForm.detect(in: value)
            self.form = form
            let row = try DatasetRow(value, form: form)
            let example = try encoder.example(of: row, line: line)
            if example.tokens.count > encoder.maximumLength {
                let reason = Dataset.Skip.Reason.tooLong(tokens: example.tokens.count, limit: encoder.maximumLength)
                skips.append(Dataset.Skip(line: line, reason: reason))
            } else if example.supervisedCount == 0 {
                skips.append(Dataset.Skip(line: line, reason: .nothingSupervised))
            } else {
                examples.append(example)
                if let question = try encoder.question(of: row, line: line) { questions.append(question) }
            }
        } catch let error as TrainingDataError {
            refusal = TrainingDataError("\(name):\(line): \(error.message)")
        } catch {
            errors.append("\(name):\(line): \(Self.oneLine(String(describing: error)))")
        }
    }

    /// A template may say anything when it refuses a row; an error stays in its line.
    private static func oneLine(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 32 ? " " : $0 }))
    }

    /// - Throws: one error for all bad lines.
    func check() throws(TrainingDataError) {
        if let refusal { throw refusal }
        guard !errors.isEmpty else { return }
        let count = "\(errors.count) of \(rowCount) rows cannot be used"
        throw TrainingDataError("\(count): \(Dataset.list(errors, separator: "; "))")
    }
}
