import CKernels
import LoRAFormats

/// Rows of a stored tensor on their way into a file: in another order and in another type, a part at a time.
struct RowConversion {
    let name: String
    /// The stored elements: `rows` times `columns`, row by row.
    let source: UnsafeRawBufferPointer
    let type: GGUFTensorType
    let rows: Int
    let columns: Int

    /// f32 elements of a part.
    private static let partCount = 1 << 18

    /// Hands the rows to `sink` as `target`: row i is the stored row `order(i)`. Rows of equal type keep their bits.
    /// - Throws: `FormatError` when a value is beyond the range of F16, and what `sink` throws.
    func write(as target: GGUFTensorType, order: (Int) -> Int, into sink: GGUFWriter.Sink) throws {
        let rowsAtOnce = max(1, min(rows, Self.partCount / columns))
        let stored = columns / type.blockSize * type.blockBytes
        let written = columns / target.blockSize * target.blockBytes
        let part = UnsafeMutableRawBufferPointer.allocate(byteCount: rowsAtOnce * stored, alignment: 64)
        let values = UnsafeMutableBufferPointer<Float>.allocate(capacity: rowsAtOnce * columns)
        let result = UnsafeMutableRawBufferPointer.allocate(byteCount: rowsAtOnce * written, alignment: 64)
        defer {
            part.deallocate()
            values.deallocate()
            result.deallocate()
        }
        for first in stride(from: 0, to: rows, by: rowsAtOnce) {
            let count = min(rowsAtOnce, rows - first)
            for row in 0..<count {
                let start = order(first + row) * stored
                let bytes = UnsafeRawBufferPointer(rebasing: source[start..<start + stored])
                UnsafeMutableRawBufferPointer(rebasing: part[(row * stored)...]).copyMemory(from: bytes)
            }
            if type == target {
                try sink(UnsafeRawBufferPointer(rebasing: part[..<(count * stored)]))
            } else {
                try convert(part, values, result, count: count * columns, to: target)
                try sink(UnsafeRawBufferPointer(rebasing: result[..<(count * written)]))
            }
        }
    }

    private func convert(
        _ part: UnsafeMutableRawBufferPointer, _ values: UnsafeMutableBufferPointer<Float>,
        _ result: UnsafeMutableRawBufferPointer, count: Int, to target: GGUFTensorType
    ) throws {
        guard let from = part.baseAddress, let floats = values.baseAddress, let to = result.baseAddress else { return }
        let status = lora_dequantize(floats, from, lora_type(rawValue: type.rawValue), count)
        precondition(status == 0, "no kernel expands \(type)")
        switch target {
        case .f32:
            result.copyMemory(from: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(values)[..<(4 * count)]))
        case .f16:
            lora_f32_to_f16(to.assumingMemoryBound(to: UInt16.self), floats, count)
            let halves = UnsafeRawBufferPointer(start: to, count: 2 * count).bindMemory(to: UInt16.self)
            for (index, half) in halves.enumerated() where half & 0x7FFF == 0x7C00 && floats[index].isFinite {
                throw FormatError(
                    "tensor \(FormatError.quoted(name)) holds \(floats[index]), beyond the range of F16; "
                        + "use --type bf16")
            }
        case .bf16: lora_f32_to_bf16(to.assumingMemoryBound(to: UInt16.self), floats, count)
        default:
            let status = lora_quantize(to, floats, nil, lora_type(rawValue: target.rawValue), count)
            precondition(status == 0, "no kernel writes \(target)")
        }
    }
}

extension SafetensorsType {
    /// The type of a GGUF file with the same bytes; nil where there is none.
    var tensorType: GGUFTensorType? {
        switch self {
        case .f32: .f32
        case .f16: .f16
        case .bf16: .bf16
        default: nil
        }
    }
}
