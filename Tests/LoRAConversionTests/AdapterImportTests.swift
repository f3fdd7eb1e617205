import Foundation
import LoRAConversion
import LoRAFormats
import LoRAModel
import OrderedCollections
import Testing

/// PEFT's adapters in, and out again in every format: `Scripts/adapter_goldens.py` made them.
@Suite("Adapters of other programs", .serialized)
struct AdapterImportTests {
    /// All are pairs of A and B alone, but for "dora".
    static let names = [
        "plain", "rslora", "patterns", "regex", "all-linear", "last-layer", "first-layer", "excluded", "qwen",
    ]
    /// Alphas or ranks differ between projections, so that a format with one factor folds them into B.
    static let folded: Set = ["patterns", "qwen"]
    /// Pairs are not the same ones in the last blocks, so that an MLX directory has pairs of zeros too.
    static let filled: Set = ["first-layer", "excluded"]

    @Test("Logits as PEFT's", arguments: names + ["dora"])
    func imported(name: String) throws {
        try Family.withFolder { folder in
            let (golden, base) = try AdapterGolden.load(name)
            let file = try AdapterConversion.importAdapter(
                from: AdapterGolden.directory(name).path, base: base, to: folder.path + "/heating.lora")
            #expect(file.record.domain == "heating")
            try golden.check(AdapterFile.read(path: folder.path + "/heating.lora"), base)
        }
    }

    @Test("Tensors and configuration of a PEFT directory come back as they were", arguments: names + ["dora"])
    func peft(name: String) throws {
        try Family.withFolder { folder in
            let (_, base) = try AdapterGolden.load(name)
            let (lora, directory) = (folder.path + "/a.lora", folder.path + "/peft")
            let original = AdapterGolden.directory(name)
            try AdapterConversion.importAdapter(from: original.path, base: base, to: lora)
            try AdapterConversion.exportAdapter(lora, base: base, format: .peft, to: directory)
            let expected = try SafetensorsFile(path: original.path + "/adapter_model.safetensors")
            let found = try SafetensorsFile(path: directory + "/adapter_model.safetensors")
            #expect(tensors(found) == tensors(expected))
            #expect(found.metadata == expected.metadata)
            let (ours, theirs) = (
                try AdapterGolden.configuration(directory), try AdapterGolden.configuration(original.path)
            )
            for key in [
                "peft_type", "task_type", "base_model_name_or_path", "r", "lora_alpha", "lora_dropout", "bias",
                "target_modules", "exclude_modules", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora",
                "fan_in_fan_out", "modules_to_save", "layers_to_transform", "layers_pattern",
            ] {
                let (one, other) = (meaning(ours[key]), meaning(theirs[key]))
                #expect(one == other, "\(key)")
            }
        }
    }

    @Test("Through GGUF", arguments: names)
    func gguf(name: String) throws {
        try Family.withFolder { folder in
            let (golden, base) = try AdapterGolden.load(name)
            let path = { folder.path + "/" + $0 }
            let first = try AdapterConversion.importAdapter(
                from: AdapterGolden.directory(name).path, base: base, to: path("heating.lora"))
            try AdapterConversion.exportAdapter(path("heating.lora"), base: base, format: .gguf, to: path("1.gguf"))
            let second = try AdapterConversion.importAdapter(from: path("1.gguf"), base: base, to: path("again.lora"))
            if !Self.folded.contains(name) { #expect(tensors(second.tensors) == tensors(first.tensors)) }
            #expect(second.record.domain == "heating")
            #expect(second.record.baseFingerprint == first.record.baseFingerprint)
            try golden.check(second, base)
            try AdapterConversion.exportAdapter(path("again.lora"), base: base, format: .gguf, to: path("2.gguf"))
            #expect(try bytes(path("1.gguf")) == bytes(path("2.gguf")))
        }
    }

    @Test("Through MLX", arguments: names)
    func mlx(name: String) throws {
        try Family.withFolder { folder in
            let (golden, base) = try AdapterGolden.load(name)
            let path = { folder.path + "/" + $0 }
            let first = try AdapterConversion.importAdapter(
                from: AdapterGolden.directory(name).path, base: base, to: path("a.lora"))
            try AdapterConversion.exportAdapter(path("a.lora"), base: base, format: .mlx, to: path("mlx"))
            let second = try AdapterConversion.importAdapter(from: path("mlx"), base: base, to: path("b.lora"))
            if !Self.folded.union(Self.filled).contains(name) {
                #expect(tensors(second.tensors) == tensors(first.tensors))
            }
            #expect(second.configuration.baseModel == first.configuration.baseModel)
            #expect(second.configuration.dropout == first.configuration.dropout)
            try golden.check(second, base)
            try AdapterConversion.exportAdapter(path("b.lora"), base: base, format: .mlx, to: path("mlx2"))
            for file in ["adapters.safetensors", "adapter_config.json"] {
                #expect(try bytes(path("mlx/" + file)) == bytes(path("mlx2/" + file)), "\(file)")
            }
        }
    }

    /// `Scripts/mlx_goldens.py` made them.
    @Test("Logits as mlx-lm's", arguments: ["mlx-keys", "mlx-all"])
    func importedMLX(name: String) throws {
        try Family.withFolder { folder in
            let (golden, base) = try AdapterGolden.load(name)
            let file = try AdapterConversion.importAdapter(
                from: AdapterGolden.directory(name).path, base: base, to: folder.path + "/a.lora")
            try golden.check(file, base)
        }
    }

    @Test("An MLX directory without keys has the projections that have tensors")
    func mlxWithoutKeys() throws {
        try Family.withFolder { folder in
            let (golden, base) = try AdapterGolden.load("regex")
            let path = { folder.path + "/" + $0 }
            try AdapterConversion.exportAdapter(
                AdapterGolden.directory("regex").path, base: base, format: .mlx, to: path("mlx"))
            var members = try #require(AdapterGolden.configuration(path("mlx")).objectValue)
            var parameters = try #require(members["lora_parameters"]?.objectValue)
            parameters["keys"] = nil
            members["lora_parameters"] = .object(parameters)
            let text = JSONValue.object(members).serialized()
            try Data(text.utf8).write(to: URL(filePath: path("mlx/adapter_config.json")))
            try golden.check(AdapterConversion.importAdapter(from: path("mlx"), base: base, to: path("a.lora")), base)
        }
    }

    @Test("Another precision rounds the values once", arguments: [SafetensorsType.f16, .bf16])
    func precision(type: SafetensorsType) throws {
        try Family.withFolder { folder in
            let (_, base) = try AdapterGolden.load("rslora")
            let file = try AdapterConversion.importAdapter(
                from: AdapterGolden.directory("rslora").path, base: base, to: folder.path + "/a.lora", precision: type)
            let original = try SafetensorsFile(
                path: AdapterGolden.directory("rslora").path + "/adapter_model.safetensors")
            for tensor in original.tensors {
                let expected = try NamedTensor(
                    name: tensor.name, type: type, shape: tensor.shape, elements: original.floats(of: tensor))
                #expect(tensors(file.tensors)[tensor.name] == expected)
            }
        }
    }

    @Test("A GGUF file's name becomes the domain when it is printable", arguments: ["heating 2", "a\u{1B}[2J"])
    func domain(name: String) throws {
        try Family.withFolder { folder in
            let (_, base) = try AdapterGolden.load("plain")
            let path = { folder.path + "/" + $0 }
            let file = try AdapterConversion.importAdapter(
                from: AdapterGolden.directory("plain").path, base: base, to: path("a.lora"))
            var record = file.record
            record.domain = name
            try AdapterFile(
                configuration: file.configuration, record: record, tensors: Array(tensors(file.tensors).values)
            ).write(path: path("b.lora"))
            try AdapterConversion.exportAdapter(path("b.lora"), base: base, format: .gguf, to: path("b.gguf"))
            let second = try AdapterConversion.importAdapter(from: path("b.gguf"), base: base, to: path("c.lora"))
            #expect(second.record.domain == (name.contains("\u{1B}") ? "c" : name))
        }
    }

    /// By name.
    private func tensors(_ file: SafetensorsFile) -> [String: NamedTensor] {
        let named = file.tensors.compactMap { tensor in
            try? NamedTensor(
                name: tensor.name, type: tensor.type, shape: tensor.shape,
                bytes: file.withBytes(of: tensor) { Array($0) })
        }
        return Dictionary(uniqueKeysWithValues: named.map { ($0.name, $0) })
    }

    private func bytes(_ path: String) throws -> Data { try Data(contentsOf: URL(filePath: path)) }

    /// The same for what means the same: whole numbers, one element for a list of one, nothing for off.
    private func meaning(_ value: JSONValue?) -> JSONValue? {
        switch value {
        case nil, .null, .array([]): nil
        case .integer(let number): .array([.number(Double(number))])
        case .number(let number): .array([.number(number)])
        case .string(let text): .array([.string(text)])
        case .array(let elements): .array(elements.map { $0.doubleValue.map { .number($0) } ?? $0 })
        case .object(let members): .object(members.mapValues { $0.doubleValue.map { .number($0) } ?? $0 })
        default: value
        }
    }
}

/// What PEFT makes of a checked-in adapter.
struct AdapterGolden: Decodable {
    /// The family whose checkpoint is the base.
    let base: String
    let tokens: [Int32]
    let positions: [Int]
    /// (positions, V).
    let logits: [[Float]]

    static let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Goldens/adapters")

    static func directory(_ name: String) -> URL { root.appending(path: name) }

    static func load(_ name: String) throws -> (golden: AdapterGolden, base: BaseModel) {
        let golden = try JSONDecoder().decode(
            AdapterGolden.self, from: Data(contentsOf: root.appending(path: name + ".json")))
        return (golden, try Family.imported(golden.base))
    }

    /// The content of a directory's `adapter_config.json`.
    static func configuration(_ directory: String) throws -> JSONValue {
        try JSONValue(parsing: [UInt8](Data(contentsOf: URL(filePath: directory + "/adapter_config.json"))))
    }

    /// Expects PEFT's logits to 1e-3 of their range.
    func check(
        _ file: AdapterFile, _ model: BaseModel, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let adapter = try file.parameters(for: model, path: "", allowsOtherBase: false).resolved(for: model)
        let pool = ThreadPool(count: 1)
        defer { pool.shutdown() }
        let pass = try InferencePass(model: model, pool: pool, compute: .f32, capacity: 64, positions: 64)
        var rows: [[Float]] = []
        let cache = KeyValueCache(configuration: model.configuration)
        pass.run([.init(cache: cache, tokens: tokens, adapter: PackedAdapter(adapter), wanted: .all)]) { _, _, row in
            rows.append(Array(row))
        }
        try #require(rows.count == tokens.count && logits.count == positions.count, sourceLocation: sourceLocation)
        for (position, expected) in zip(positions, logits) {
            try #require(rows[position].count == expected.count, sourceLocation: sourceLocation)
            let range = (expected.max() ?? 0) - (expected.min() ?? 0)
            let difference = zip(rows[position], expected).reduce(0) { max($0, abs($1.0 - $1.1)) }
            #expect(
                difference <= 1e-3 * range, "position \(position): \(difference) of \(range)",
                sourceLocation: sourceLocation)
        }
    }
}
