public import LoRAFormats

/// Between an adapter in memory, whose rows follow the base's order, and a PEFT adapter, whose rows follow Hugging
/// Face's.
extension AdapterParameters {
    /// Takes the tensors of `file` for a base of `configuration`.
    /// - Throws: `FormatError` that lists every tensor that is missing, surplus or misshapen.
    public convenience init(file: AdapterFile, configuration: ModelConfiguration) throws {
        let matcher = try AdapterModuleMatcher(file.configuration)
        let layout = AdapterLayout(configuration: configuration, matcher: matcher)
        try Self.check(file, layout)
        self.init(unset: layout)
        for pair in layout.pairs {
            try read(file.tensors, pair.nameA, at: pair.offset, count: pair.countA)
            try read(file.tensors, pair.nameB, at: pair.offsetB, count: pair.countB)
            if pair.rowFactors != .none {
                try read(file.tensors, pair.nameMagnitudes, at: pair.offsetRowFactors, count: pair.outputs)
            }
            reorder(pair, configuration, toFile: false)
        }
    }

    /// The tensors as PEFT names and orders them.
    /// - Parameter type: F32, BF16 or F16; of A and B. Magnitudes are F32: rounded, they would change whole rows.
    /// - Throws: `FormatError` when `type` holds no floats.
    public func tensors(configuration: ModelConfiguration, type: SafetensorsType) throws -> [NamedTensor] {
        let copy = AdapterParameters(unset: layout)
        copy.values.update(from: values, count: layout.parameterCount)
        return try layout.pairs.flatMap { pair in
            copy.reorder(pair, configuration, toFile: true)
            let magnitudes = try copy.magnitudeTensor(pair).map { [$0] } ?? []
            return [
                try NamedTensor(
                    name: pair.nameA, type: type, shape: [pair.rank, pair.inputs],
                    elements: UnsafeBufferPointer(start: copy.matrixA(pair), count: pair.countA)),
                try NamedTensor(
                    name: pair.nameB, type: type, shape: [pair.outputs, pair.rank],
                    elements: UnsafeBufferPointer(start: copy.matrixB(pair), count: pair.countB)),
            ] + magnitudes
        }
    }

    private func magnitudeTensor(_ pair: LowRankPair) throws -> NamedTensor? {
        guard pair.rowFactors != .none else { return nil }
        precondition(pair.rowFactors == .magnitudes, "gains of \(pair.moduleName) have no place in a file")
        return try NamedTensor(
            name: pair.nameMagnitudes, type: .f32, shape: [pair.outputs],
            elements: UnsafeBufferPointer(start: rowFactors(pair), count: pair.outputs))
    }

    private func read(_ tensors: SafetensorsFile, _ name: String, at offset: Int, count: Int) throws {
        guard let tensor = tensors.tensor(named: name) else { throw FormatError("there is no tensor \(name)") }
        let out = UnsafeMutableBufferPointer(start: values + offset, count: count)
        try tensors.writeFloats(of: tensor, to: out)
        guard Self.areFinite(UnsafeBufferPointer(out)) else {
            throw FormatError("tensor \(name) holds values that are not finite")
        }
    }

    /// GGUF permutes the rows of the `llama` architecture's q and k so that rotary pairs are adjacent; the same
    /// permutation belongs to the rows of their B and to their magnitudes: (heads, 2, D/2) becomes (heads, D/2, 2).
    private func reorder(_ pair: LowRankPair, _ configuration: ModelConfiguration, toFile: Bool) {
        let isRotated = pair.target == .queryProjection || pair.target == .keyProjection
        guard isRotated, !configuration.ropeUsesHalves else { return }
        let D = configuration.headSize
        reorder(values + pair.offsetB, rows: pair.outputs, width: pair.rank, headSize: D, toFile: toFile)
        guard pair.rowFactors != .none else { return }
        reorder(values + pair.offsetRowFactors, rows: pair.outputs, width: 1, headSize: D, toFile: toFile)
    }

    private func reorder(
        _ out: UnsafeMutablePointer<Float>, rows: Int, width r: Int, headSize D: Int, toFile: Bool
    ) {
        let half = D / 2
        let source = [Float](UnsafeBufferPointer(start: out, count: rows * r))
        for row in 0..<rows {
            let (head, index) = (row / D, row % D)
            let adjacent = head * D + index % half * 2 + index / half
            let (from, to) = toFile ? (adjacent, row) : (row, adjacent)
            for column in 0..<r { out[to * r + column] = source[from * r + column] }
        }
    }

    private static func check(_ file: AdapterFile, _ layout: AdapterLayout) throws {
        var problems: [String] = []
        var expected: Set<String> = []
        for pair in layout.pairs {
            var tensors = [(pair.nameA, [pair.rank, pair.inputs]), (pair.nameB, [pair.outputs, pair.rank])]
            if pair.rowFactors != .none { tensors.append((pair.nameMagnitudes, [pair.outputs])) }
            for (name, shape) in tensors {
                expected.insert(name)
                guard let tensor = file.tensors.tensor(named: name) else {
                    problems.append("missing \(name)")
                    continue
                }
                if tensor.shape != shape { problems.append("\(name) has shape \(tensor.shape), expected \(shape)") }
            }
        }
        for tensor in file.tensors.tensors where !expected.contains(tensor.name) {
            problems.append("unexpected \(tensor.name)")
        }
        if layout.pairs.isEmpty { problems.append("no target module of the adapter is a projection of this base") }
        guard problems.isEmpty else {
            throw FormatError("adapter does not fit the base: \(problems.joined(separator: "; "))")
        }
    }
}

extension AdapterLayout {
    /// The pairs that `matcher` means in a base of `configuration`.
    public init(configuration: ModelConfiguration, matcher: AdapterModuleMatcher) {
        let rowFactors: RowFactors = matcher.decomposesWeights ? .magnitudes : .none
        self.init(configuration: configuration, rowFactors: rowFactors) { block, target in
            matcher.rankAndScale(module: target.moduleName(block: block), layer: block)
        }
    }
}
