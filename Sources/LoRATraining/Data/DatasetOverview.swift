internal import Crypto
internal import Foundation
internal import LoRAFormats
internal import OrderedCollections

/// What a JSONL file is, as far as it can be told without a base.
public struct DatasetOverview: Sendable {
    /// Lines that are not blank; only the first is looked into.
    public let rows: Int
    public let bytes: Int
    /// That of the first row.
    public let form: RowForm
    /// Those of the first row, in its order.
    public let keys: [String]
    /// SHA-256 of the file's bytes, 64 hexadecimal digits.
    public let digest: String

    /// Reads the JSONL file at `path`, in pieces.
    /// - Throws: `TrainingDataError` when it cannot be read, or its first row is none.
    public init(path: String) throws {
        do {
            try self.init(OpenFile(path: path), path: path)
        } catch let error as FormatError {
            throw TrainingDataError(error.file == nil ? "\(path): \(error)" : String(describing: error))
        }
    }

    private init(_ source: consuming OpenFile, path: String) throws {
        var pieces = LinePieces()
        var count = 0
        var first: (row: JSONValue, line: Int)?
        while let piece = try pieces.next(of: source) {
            // A line too long to be read is a row all the same.
            if piece.refusedBytes != nil { count += 1 }
            try piece.bytes.withUnsafeBytes { bytes in
                try LinePieces.forEachRow(of: bytes, firstLine: piece.firstLine) { text, line in
                    count += 1
                    if first == nil { first = (try Self.parse(text, path: path, line: line), line) }
                    return true
                }
            }
        }
        guard let first else { throw TrainingDataError("\(path): there is no row in the file") }
        do {
            form = try RowForm.detect(in: first.row)
        } catch {
            throw TrainingDataError("\(path):\(first.line): \(error)")
        }
        (rows, bytes) = (count, source.state.size)
        keys = first.row.objectValue.map { Array($0.keys) } ?? []
        digest = try TokenCache.computeDigest(of: source)
    }

    private static func parse(_ text: UnsafeRawBufferPointer, path: String, line: Int) throws -> JSONValue {
        do { return try JSONValue(parsing: text) } catch { throw TrainingDataError("\(path):\(line): \(error)") }
    }
}
