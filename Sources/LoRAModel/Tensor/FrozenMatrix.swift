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

    /// Expands one row to f32.
    func expand(_ out: UnsafeMutablePointer<Float>, row: Int) {
        let status = lora_dequantize(out, bytes + row * rowBytes, kernelType, columns)
        precondition(status == 0, "no kernel expands \(type)")
    }

    /// The same, rounded to bf16.
    func expand(_ out: UnsafeMutablePointer<UInt16>, row: Int) {
        let status = lora_dequantize_bf16(out, bytes + row * rowBytes, kernelType, columns)
        precondition(status == 0, "no kernel expands \(type)")
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

    /// Where `row` is stored.
    func bytes(row: Int) -> UnsafeRawPointer {
        var row = row
        for part in parts {
            if row < part.rows { return part.bytes + row * part.rowBytes }
            row -= part.rows
        }
        preconditionFailure("row \(row + rows) of \(rows)")
    }
}
