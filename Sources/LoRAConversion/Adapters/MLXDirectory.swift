import LoRAFormats
import LoRAModel
import OrderedCollections

/// mlx-lm's adapter directories (https://github.com/ml-explore/mlx-lm, mlx_lm/tuner): `adapters.safetensors` with
/// `model.layers.N.self_attn.q_proj.lora_a` (in, r) and `….lora_b` (r, out), and `adapter_config.json`, whose `scale`
/// is the final factor.
///
/// One rank and one scale hold for all projections, and the last `num_layers` blocks get the same ones: what differs
/// is folded into B, and filled up with zeros.
enum MLXDirectory {
    static let tensorsName = "adapters.safetensors"
    private static let configurationName = "adapter_config.json"
    private static let maximumConfiguration = 1 << 20

    // MARK: Reading

    /// The adapter in the directory at `path`.
    /// - Throws: `FormatError` with all that is wrong in the configuration, or all tensors that do not fit.
    static func read(_ path: String, configuration model: ModelConfiguration) throws -> ForeignAdapter {
        let settings = try settings(path, blockCount: model.blockCount)
        let file: SafetensorsFile
        do {
            file = try SafetensorsFile(path: "\(path)/\(tensorsName)", limit: AdapterFile.maximumTensors)
        } catch let error as FormatError { throw error.within(path) }
        var collector = PairCollector(configuration: model)
        var missing = settings.namesProjections ? settings.projections : []
        for tensor in file.tensors {
            guard let (projection, part) = parse(tensor.name), settings.projections.contains(projection) else {
                collector.problem("unexpected \(FormatError.quoted(tensor.name))")
                continue
            }
            missing.remove(projection)
            let stored = try file.named(tensor)
            let isMatrix = part != .magnitudes && tensor.shape.count == 2
            collector.add(isMatrix ? try stored.transposed() : stored, part, of: projection)
            if part == .a, isMatrix, tensor.shape[1] != settings.rank {
                collector.problem(
                    "\(FormatError.quoted(tensor.name)) has rank \(tensor.shape[1]), \(configurationName) "
                        + "\(settings.rank)")
            }
        }
        for projection in missing.sorted() {
            for part in [PairCollector.Part.a, .b] { collector.problem("missing \(name(projection, part))") }
        }
        let (pairs, tensors) = try collector.finish(isDecomposed: false, foreignName: name)
        var configuration = AdapterConfiguration(
            pairs: pairs.map { ($0.projection, $0.rank, settings.scale * Double($0.rank)) },
            blockCount: model.blockCount)
        configuration.dropout = settings.dropout
        configuration.baseModel = settings.baseModel
        return ForeignAdapter(
            format: .mlx, configuration: configuration, tensors: tensors,
            digest: file.withBytes { Digest.hexadecimal(of: $0) })
    }

    /// What `adapter_config.json` says.
    private struct Settings {
        var baseModel: String?
        var rank = 0
        var scale = 0.0
        var dropout = 0.0
        /// What may have tensors.
        var projections: Set<Projection> = []
        /// Whether each of `projections` must have them: without `keys`, versions of mlx-lm differ in what they adapt.
        var namesProjections = false
    }

    private static func settings(_ path: String, blockCount: Int) throws -> Settings {
        let file = configurationName
        let json: JSONValue
        do {
            let map = try MappedFile(path: "\(path)/\(file)", limit: maximumConfiguration)
            json = try FormatError.relocating(in: "\(path)/\(file)") {
                try withExtendedLifetime(map) { try JSONValue(parsing: map.bytes) }
            }
        } catch let error as FormatError { throw error.within(path) }
        var settings = Settings()
        var flaws: [String] = []
        if let type = json["fine_tune_type"], type != .string("lora") {
            flaws.append("fine_tune_type is \(type.serialized().prefix(60)), expected \"lora\"")
        }
        let parameters = json["lora_parameters"]
        if parameters?.objectValue == nil { flaws.append("lora_parameters is missing or no object") }
        settings.baseModel = json["model"]?.stringValue
        settings.rank = parameters?["rank"]?.intValue ?? 0
        if !(1...1 << 16).contains(settings.rank) { flaws.append("lora_parameters.rank must be from 1 to \(1 << 16)") }
        settings.scale = parameters?["scale"]?.doubleValue ?? .nan
        if !Float(settings.scale).isFinite { flaws.append("lora_parameters.scale must be a number") }
        settings.dropout = parameters?["dropout"]?.doubleValue ?? 0
        if !(0..<1).contains(settings.dropout) {
            flaws.append("lora_parameters.dropout must be at least 0 and below 1")
        }
        if let alpha = parameters?["alpha"], !alpha.isNull, alpha.doubleValue != Double(settings.rank) {
            flaws.append(
                "lora_parameters.alpha is not supported: old versions of mlx-lm multiply scale by alpha / rank, others "
                    + "ignore it; write the final factor as scale and remove alpha")
        }
        guard let count = json["num_layers"]?.intValue else {
            flaws.append("num_layers must be a whole number")
            throw FormatError(flaws.joined(separator: "; "), file: file)
        }
        // As Python's slice from -num_layers on; 0 and below mean all.
        let first = (1...blockCount).contains(count) ? blockCount - count : 0
        let keys = parameters?["keys"].flatMap { $0.isNull ? nil : $0 }
        settings.namesProjections = keys != nil
        settings.projections = projections(
            keys, blocks: first..<blockCount, blockCount: blockCount, flaws: &flaws)
        guard flaws.isEmpty else { throw FormatError(flaws.joined(separator: "; "), file: file) }
        return settings
    }

    /// The projections that `keys` mean: names within a block, or in full; without keys all of them.
    private static func projections(
        _ keys: JSONValue?, blocks: Range<Int>, blockCount: Int, flaws: inout [String]
    ) -> Set<Projection> {
        var names: Set<String>?
        if let keys {
            guard let texts = keys.arrayValue?.compactMap(\.stringValue), texts.count == keys.arrayValue?.count else {
                flaws.append("lora_parameters.keys must be an array of strings")
                return []
            }
            names = Set(texts)
        }
        var found: Set<Projection> = []
        for block in 0..<blockCount {
            for target in TargetModule.allCases {
                let isMeant = names?.contains("\(target.parent).\(target.rawValue)") ?? true
                let isNamed = names?.contains(target.moduleName(block: block)) ?? false
                if isMeant && blocks.contains(block) || isNamed {
                    found.insert(Projection(block: block, target: target))
                }
            }
        }
        if found.isEmpty { flaws.append("lora_parameters.keys names no projection of the base") }
        return found
    }

    private static func parse(_ name: String) -> (Projection, PairCollector.Part)? {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 6, let block = Int(parts[2]), let target = TargetModule(rawValue: String(parts[4])) else {
            return nil
        }
        let projection = Projection(block: block, target: target)
        return PairCollector.Part.allCases.first { self.name(projection, $0) == name }.map { (projection, $0) }
    }

    private static func name(_ projection: Projection, _ part: PairCollector.Part) -> String {
        let suffix =
            switch part {
            case .a: "lora_a"
            case .b: "lora_b"
            case .magnitudes: "m"
            }
        return "\(projection.moduleName).\(suffix)"
    }

    // MARK: Writing

    /// The files of the directory for `adapter`, which fits the model.
    /// - Throws: `FormatError` when the format cannot express the adapter.
    static func files(
        _ adapter: AdapterFile, configuration model: ModelConfiguration
    ) throws -> [(name: String, bytes: [UInt8])] {
        let parts = try ScaledPairs(adapter, configuration: model) { alpha, rank, isStabilized in
            alpha / (isStabilized ? Double(rank).squareRoot() : Double(rank))
        }
        let rank = parts.layout.largestRank
        let targets = TargetModule.allCases.filter { target in parts.layout.pairs.contains { $0.target == target } }
        let firstBlock = parts.layout.pairs.first?.block ?? 0
        var tensors: [NamedTensor] = []
        for block in firstBlock..<model.blockCount {
            for target in targets {
                let projection = Projection(block: block, target: target)
                let shape = target.shape(in: model)
                let a, b: NamedTensor
                if let pair = parts.layout.pair(block: block, target) {
                    a = try adapter.tensors.named(pair.nameA)
                    b = try parts.matrixB(of: pair)
                } else {
                    a = try NamedTensor(name: "", type: parts.type, shape: [0, shape.inputs], bytes: [])
                    b = try NamedTensor(name: "", type: parts.type, shape: [shape.outputs, 0], bytes: [])
                }
                tensors += [
                    try a.padded(rows: rank, columns: shape.inputs).transposed().renamed(name(projection, .a)),
                    try b.padded(rows: shape.outputs, columns: rank).transposed().renamed(name(projection, .b)),
                ]
            }
        }
        let parameters: OrderedDictionary<String, JSONValue> = [
            "rank": .integer(Int64(rank)), "scale": .number(parts.factor),
            "dropout": .number(adapter.configuration.dropout),
            "keys": .array(targets.map { .string("\($0.parent).\($0.rawValue)") }),
        ]
        let json = JSONValue.object([
            "fine_tune_type": .string("lora"),
            "model": adapter.configuration.baseModel.map { .string($0) } ?? .null,
            "num_layers": .integer(Int64(model.blockCount - firstBlock)), "lora_parameters": .object(parameters),
        ])
        return [
            (configurationName, Array((json.serialized(pretty: true) + "\n").utf8)),
            (tensorsName, try SafetensorsWriter.serialize(tensors, metadata: ["format": "mlx"])),
        ]
    }
}
