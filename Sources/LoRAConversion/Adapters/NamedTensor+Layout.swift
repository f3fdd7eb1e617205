import LoRAFormats

/// What conversions do to a tensor. Only `converted` and `scaled` touch a value: the others move bytes.
extension NamedTensor {
    /// Whether this is an A or a B under PEFT's name.
    var isLowRankMatrix: Bool { name.hasSuffix(".lora_A.weight") || name.hasSuffix(".lora_B.weight") }

    func renamed(_ name: String) throws -> NamedTensor {
        try NamedTensor(name: name, type: type, shape: shape, bytes: bytes)
    }

    /// (rows, columns) becomes (columns, rows).
    func transposed() throws -> NamedTensor {
        precondition(shape.count == 2, "\(name) has shape \(shape)")
        let (rows, columns, size) = (shape[0], shape[1], type.elementBytes)
        let moved = [UInt8](unsafeUninitializedCapacity: bytes.count) { out, count in
            for row in 0..<rows {
                for column in 0..<columns {
                    let (from, to) = ((row * columns + column) * size, (column * rows + row) * size)
                    for byte in 0..<size { out[to + byte] = bytes[from + byte] }
                }
            }
            count = bytes.count
        }
        return try NamedTensor(name: name, type: type, shape: [columns, rows], bytes: moved)
    }

    /// Rows of q or k between Hugging Face's order, (heads, 2, D/2), and GGUF's for adjacent rotary pairs,
    /// (heads, D/2, 2).
    /// - Parameter headSize: D; a divisor of the rows.
    func rotaryRowsReordered(headSize: Int, toGGUF: Bool) throws -> NamedTensor {
        precondition(shape[0].isMultiple(of: headSize), "\(shape[0]) rows in heads of \(headSize)")
        let (half, width) = (headSize / 2, bytes.count / max(shape[0], 1))
        var moved: [UInt8] = []
        moved.reserveCapacity(bytes.count)
        for row in 0..<shape[0] {
            let (start, index) = (row / headSize * headSize, row % headSize)
            let source = start + (toGGUF ? index % 2 * half + index / 2 : index % half * 2 + index / half)
            moved += bytes[source * width..<(source + 1) * width]
        }
        return try NamedTensor(name: name, type: type, shape: shape, bytes: moved)
    }

    /// (rows, columns) filled up with zeros to the given size.
    func padded(rows: Int, columns: Int) throws -> NamedTensor {
        if shape == [rows, columns] { return self }
        let (size, oldColumns) = (type.elementBytes, shape[1])
        var filled: [UInt8] = []
        filled.reserveCapacity(rows * columns * size)
        for row in 0..<shape[0] {
            filled += bytes[row * oldColumns * size..<(row + 1) * oldColumns * size]
            filled += repeatElement(0, count: (columns - oldColumns) * size)
        }
        filled += repeatElement(0, count: (rows - shape[0]) * columns * size)
        return try NamedTensor(name: name, type: type, shape: [rows, columns], bytes: filled)
    }

    /// The values in another type; nil keeps everything as it is.
    /// - Throws: `FormatError` when the values are no floats, or one is too large for the type.
    func converted(to type: SafetensorsType?) throws -> NamedTensor {
        guard let type, type != self.type else { return self }
        let values = try floats()
        let result = try NamedTensor(name: name, type: type, shape: shape, elements: values)
        if type == .f16, zip(values, try result.floats()).contains(where: { $0.isFinite && !$1.isFinite }) {
            throw FormatError("tensor \(FormatError.quoted(name)) holds values too large for F16; use bf16 or f32")
        }
        return result
    }

    /// Every value times `factor`, rounded once to F32; a factor of 1 keeps everything as it is.
    func scaled(by factor: Double) throws -> NamedTensor {
        if factor == 1 { return self }
        let values = try floats().map { Float(Double($0) * factor) }
        return try NamedTensor(name: name, type: .f32, shape: shape, elements: values)
    }

    private func floats() throws -> [Float] {
        guard let values = bytes.withUnsafeBytes({ type.floats($0) }) else {
            throw FormatError(
                "tensor \(FormatError.quoted(name)) has type \(type.rawValue), expected F32, F16 or BF16")
        }
        return values
    }
}

extension SafetensorsFile {
    /// A copy of the tensor.
    func named(_ tensor: Tensor, as name: String? = nil) throws -> NamedTensor {
        try NamedTensor(
            name: name ?? tensor.name, type: tensor.type, shape: tensor.shape,
            bytes: withBytes(of: tensor) { Array($0) })
    }

    /// A copy of the tensor of that name.
    /// - Throws: `FormatError` when there is none.
    func named(_ name: String) throws -> NamedTensor {
        guard let tensor = tensor(named: name) else {
            throw FormatError("there is no tensor \(FormatError.quoted(name))")
        }
        return try named(tensor)
    }
}
