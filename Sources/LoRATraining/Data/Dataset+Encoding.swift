internal import LoRAFormats
internal import LoRAModel

extension Dataset {
    /// Reads `source` from beginning to end, in pieces whose rows all cores encode, and writes a token file.
    /// - Parameters:
    ///   - path: of the source.
    ///   - directory: where the token file is made.
    ///   - target: its path; nil for a file that vanishes with its last use.
    ///   - progress: told the file's name and the share of it that is done, after each piece.
    /// - Throws: `TrainingDataError` for bad rows; `FormatError` when there is no room, or `source` changes meanwhile.
    static func encode(
        _ source: borrowing OpenFile, path: String, encoder: ExampleEncoder, in directory: String, key: String,
        keepingAs target: String?, progress: (_ name: String, _ share: Double) -> Void
    ) throws -> TokenFile {
        let name = name(of: path)
        var writer = try TokenFileWriter(directory: directory, mayBeKept: target != nil)
        var errors = ErrorList()
        var (rowCount, byteCount) = (0, 0)
        var form: RowForm?
        var pieces = LinePieces()
        let pool = ThreadPool()
        defer { pool.shutdown() }
        while let piece = try pieces.next(of: source) {
            form = form ?? piece.bytes.withUnsafeBytes(EncodedRows.form)
            for rows in encode(piece, EncodedRows(encoder: encoder, fileName: name, form: form), pool) {
                if let refusal = rows.refusal { throw refusal }
                errors.append(rows.errors)
                rowCount += rows.rowCount
                if errors.count == 0 { try writer.append(rows) }
            }
            byteCount += piece.refusedBytes ?? piece.bytes.count
            progress(name, min(1, Double(byteCount) / Double(source.state.size)))
        }
        guard errors.count == 0 else {
            let more = errors.count > errors.first.count ? "; and \(errors.count - errors.first.count) more" : ""
            throw TrainingDataError(
                "\(errors.count) of \(rowCount) rows cannot be used: " + errors.first.joined(separator: "; ") + more)
        }
        guard let form else { throw TrainingDataError("\(path): there is no row in the file") }
        guard try source.isUnchanged() else {
            throw TrainingDataError("\(name): the file was changed while it was read; start again")
        }
        return try writer.finish(form: form, key: key, keepingAs: target)
    }

    /// The rows of a piece, in their order.
    private static func encode(
        _ piece: LinePieces.Piece, _ empty: EncodedRows, _ pool: ThreadPool
    ) -> [EncodedRows] {
        if let byteCount = piece.refusedBytes {
            var rows = empty
            rows.refuse(line: piece.firstLine, byteCount: byteCount)
            return [rows]
        }
        // More parts than threads: not all rows take the same time.
        let parts = piece.parts(pool.count * 4)
        var encoded = Array(repeating: empty, count: parts.count)
        piece.bytes.withUnsafeBytes { bytes in
            encoded.withUnsafeMutableBufferPointer { encoded in
                pool.forEachTask(parts.count) { task, _ in
                    let part = parts[task]
                    encoded[task].read(UnsafeRawBufferPointer(rebasing: bytes[part.bytes]), firstLine: part.firstLine)
                }
            }
        }
        return encoded
    }
}
