import CKernels
import LoRAFormats
import LoRAModel

/// llama.cpp's adapters (https://github.com/ggml-org/llama.cpp, convert_lora_to_gguf.py): a GGUF file with
/// `blk.N.attn_q.weight.lora_a` (r, in) and `….lora_b` (out, r) in the order of the base's rows.
///
/// The scale is alpha / r for every pair, or 1 where alpha is zero.
enum GGUFAdapter {
    private static let alphaKey = "adapter.lora.alpha"
    private static let nameKey = "general.name"
    private static let fingerprintKey = "lora.base_fingerprint"

    // MARK: Reading

    /// The adapter in the file at `path`.
    /// - Throws: `FormatError` with all keys and tensors that do not fit.
    static func read(_ path: String, configuration model: ModelConfiguration) throws -> ForeignAdapter {
        let file: GGUFFile
        do { file = try GGUFFile(path: path) } catch let error as FormatError { throw error.within(path) }
        var collector = PairCollector(configuration: model)
        checkKeys(file, model, &collector)
        for tensor in file.tensors {
            guard let (projection, part) = parse(tensor.name) else {
                collector.problem("unexpected \(FormatError.quoted(tensor.name))")
                continue
            }
            guard let named = try named(tensor, in: file) else {
                collector.problem(
                    "\(FormatError.quoted(tensor.name)) has type \(tensor.type.name), expected F32, F16, BF16 or Q8_0")
                continue
            }
            let isRotated =
                part == .b && projection.hasRotaryRows(in: model)
                && tensor.shape.first
                    .map { $0 == projection.target.shape(in: model).outputs } ?? false
            collector.add(
                isRotated ? try named.rotaryRowsReordered(headSize: model.headSize, toGGUF: false) : named, part,
                of: projection)
        }
        let (pairs, tensors) = try collector.finish(foreignName: name)
        let alpha = Double(file.metadata[alphaKey]?.floatValue ?? 0)
        let configuration = AdapterConfiguration(
            pairs: pairs.map { ($0.projection, $0.rank, alpha == 0 ? Double($0.rank) : alpha) },
            blockCount: model.blockCount)
        var adapter = ForeignAdapter(
            format: .gguf, configuration: configuration, tensors: tensors,
            digest: withExtendedLifetime(file) { Digest.hexadecimal(of: file.map.bytes) })
        adapter.baseFingerprint = file.metadata[fingerprintKey]?.stringValue
        // The domain is printed: control characters stay out.
        if adapter.baseFingerprint != nil, let name = file.metadata[nameKey]?.stringValue,
            FormatError.quoted(name) == "'\(name)'"
        {
            adapter.domain = name
        }
        return adapter
    }

    private static func checkKeys(_ file: GGUFFile, _ model: ModelConfiguration, _ collector: inout PairCollector) {
        for (key, expected) in [
            ("general.type", "adapter"), ("adapter.type", "lora"), ("general.architecture", model.architecture),
        ] {
            let value = file.metadata[key]?.stringValue
            if value != expected {
                collector.problem(
                    "key \(key) is \(value.map { FormatError.quoted($0) } ?? "missing"), expected '\(expected)'")
            }
        }
        if !(file.metadata[alphaKey]?.floatValue?.isFinite ?? false) {
            collector.problem("key \(alphaKey) must be a number")
        }
        if let fingerprint = file.metadata[fingerprintKey], !Digest.isHexadecimal(fingerprint.stringValue) {
            collector.problem("key \(fingerprintKey) must have 64 hexadecimal digits")
        }
        for key in file.keys where key.hasPrefix("adapter.alora.") {
            collector.problem("key \(FormatError.quoted(key)) is not supported")
        }
    }

    /// A copy of the tensor; nil for a type that is not read.
    private static func named(_ tensor: GGUFTensor, in file: GGUFFile) throws -> NamedTensor? {
        let bytes = file.bytes(of: tensor)
        return try withExtendedLifetime(file) {
            switch tensor.type {
            case .f32: try NamedTensor(name: tensor.name, type: .f32, shape: tensor.shape, bytes: Array(bytes))
            case .f16: try NamedTensor(name: tensor.name, type: .f16, shape: tensor.shape, bytes: Array(bytes))
            case .bf16: try NamedTensor(name: tensor.name, type: .bf16, shape: tensor.shape, bytes: Array(bytes))
            case .q8_0:
                try NamedTensor(name: tensor.name, type: .f32, shape: tensor.shape, elements: expanded(bytes, tensor))
            default: nil
            }
        }
    }

    private static func expanded(_ bytes: UnsafeRawBufferPointer, _ tensor: GGUFTensor) -> [Float] {
        [Float](unsafeUninitializedCapacity: tensor.count) { buffer, count in
            guard let out = buffer.baseAddress, let from = bytes.baseAddress else { return }
            let status = lora_dequantize(out, from, lora_type(rawValue: tensor.type.rawValue), tensor.count)
            count = status == 0 ? tensor.count : 0
        }
    }

    private static func parse(_ name: String) -> (Projection, PairCollector.Part)? {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 5, let block = Int(parts[1]),
            let target = TargetModule.allCases.first(where: { $0.ggufName == parts[2] })
        else { return nil }
        let projection = Projection(block: block, target: target)
        return [PairCollector.Part.a, .b].first { self.name(projection, $0) == name }.map { (projection, $0) }
    }

    private static func name(_ projection: Projection, _ part: PairCollector.Part) -> String {
        "blk.\(projection.block).\(projection.target.ggufName).weight.\(part == .a ? "lora_a" : "lora_b")"
    }

    // MARK: Writing

    /// The file for `adapter`, which fits the base.
    /// - Throws: `FormatError` when the format cannot express the adapter.
    static func writer(_ adapter: AdapterFile, base: BaseModel) throws -> GGUFWriter {
        let model = base.configuration
        let parts = try ScaledPairs(adapter, configuration: model) { alpha, rank, isStabilized in
            isStabilized ? alpha * Double(rank).squareRoot() : alpha
        }
        var writer = GGUFWriter()
        try writer.add("general.architecture", .string(model.architecture))
        try writer.add("general.type", .string("adapter"))
        try writer.add(nameKey, .string(adapter.record.domain))
        try writer.add("adapter.type", .string("lora"))
        try writer.add(alphaKey, .float32(Float(parts.factor)))
        if let fingerprint = adapter.record.baseFingerprint { try writer.add(fingerprintKey, .string(fingerprint)) }
        for pair in parts.layout.pairs {
            let projection = Projection(block: pair.block, target: pair.target)
            var b = try parts.matrixB(of: pair)
            if projection.hasRotaryRows(in: model) {
                b = try b.rotaryRowsReordered(headSize: model.headSize, toGGUF: true)
            }
            for (tensor, part) in [(try adapter.tensors.named(pair.nameA), PairCollector.Part.a), (b, .b)] {
                try writer.addTensor(
                    name(projection, part), type: tensor.type.ggufType, shape: tensor.shape, bytes: tensor.bytes)
            }
        }
        return writer
    }
}

extension Projection {
    /// Whether GGUF files have the rows in another order than Hugging Face's checkpoints.
    func hasRotaryRows(in model: ModelConfiguration) -> Bool {
        !model.ropeUsesHalves && [.queryProjection, .keyProjection].contains(target)
    }
}

extension SafetensorsType {
    /// The same floats in a GGUF file.
    fileprivate var ggufType: GGUFTensorType {
        switch self {
        case .f16: .f16
        case .bf16: .bf16
        default: .f32
        }
    }
}
