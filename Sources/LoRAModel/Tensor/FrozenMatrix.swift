import CKernels
public import LoRAFormats

/// Weights of the base in the map, in their stored type: shape (rows, columns) = (out, in), row-major in whole blocks.
public struct FrozenMatrix: @unchecked Sendable {  // the bytes are a read-only map
    public let bytes: UnsafeRawPointer
    public let type: GGUFTensorType
    public let rows: Int
    public let columns: Int

    /// Bytes of one row.
    var rowBytes: Int { columns / type.blockSize * type.blockBytes }
    var kernelType: lora_type { lora_type(rawValue: type.rawValue) }

    /// Expands `rows` × `columns` (a whole number of blocks per row) to f32, rows `columns.count` apart.
    func expand(_ out: UnsafeMutablePointer<Float>, rows: Range<Int>, columns: Range<Int>) {
        forEachRun(rows: rows, columns: columns) { source, at, count in
            lora_dequantize(out + at, source, kernelType, count)
        }
    }

    /// The same, rounded to bf16.
    func expand(_ out: UnsafeMutablePointer<UInt16>, rows: Range<Int>, columns: Range<Int>) {
        forEachRun(rows: rows, columns: columns) { source, at, count in
            lora_dequantize_bf16(out + at, source, kernelType, count)
        }
    }

    private func forEachRun(
        rows: Range<Int>, columns: Range<Int>, _ body: (_ source: UnsafeRawPointer, _ at: Int, _ count: Int) -> Int32
    ) {
        precondition(
            columns.lowerBound % type.blockSize == 0 && columns.count % type.blockSize == 0,
            "columns \(columns) cut blocks of \(type.blockSize)")
        if columns.count == self.columns {
            let status = body(bytes + rows.lowerBound * rowBytes, 0, rows.count * columns.count)
            return precondition(status == 0, "no kernel expands \(type)")
        }
        let skip = columns.lowerBound / type.blockSize * type.blockBytes
        for (index, row) in rows.enumerated() {
            let status = body(bytes + row * rowBytes + skip, index * columns.count, columns.count)
            precondition(status == 0, "no kernel expands \(type)")
        }
    }
}

/// Frozen matrices of equal width that are multiplied as one, stacked along their rows: q over k over v, gate over up.
public struct StackedMatrix: Sendable {
    public let parts: [FrozenMatrix]
    public let rows: Int
    public let columns: Int

    public init(_ parts: [FrozenMatrix]) {
        precondition(!parts.isEmpty && parts.allSatisfy { $0.columns == parts[0].columns }, "widths differ")
        self.parts = parts
        rows = parts.reduce(0) { $0 + $1.rows }
        columns = parts[0].columns
    }

    /// The largest block of the parts' types: where columns may be cut.
    var columnMultiple: Int { parts.reduce(1) { max($0, $1.type.blockSize) } }

    /// The single part when it holds `type` already, so that the map itself can be multiplied.
    func stored(as type: GGUFTensorType) -> FrozenMatrix? {
        parts.count == 1 && parts[0].type == type ? parts[0] : nil
    }

    /// Calls `body` for each part that meets `rows`, with the rows inside the part and their place in the range.
    func forEachPart(in rows: Range<Int>, _ body: (_ part: FrozenMatrix, _ rows: Range<Int>, _ at: Int) -> Void) {
        var start = 0
        for part in parts {
            let lower = max(rows.lowerBound, start)
            let upper = min(rows.upperBound, start + part.rows)
            if lower < upper { body(part, lower - start..<upper - start, lower - rows.lowerBound) }
            start += part.rows
        }
    }
}
