import Foundation
import OrderedCollections
import Testing

@testable import LoRAFormats

@Suite("Adapter configuration")
struct AdapterConfigurationTests {
    private static let required: OrderedDictionary<String, JSONValue> = [
        "peft_type": .string("LORA"), "r": .integer(8), "lora_alpha": .integer(16),
        "target_modules": .array([.string("q_proj"), .string("v_proj")]),
    ]

    private func configuration(_ changes: [String: JSONValue]) throws -> AdapterConfiguration {
        try AdapterConfiguration(json: .object(Self.required.merging(changes) { $1 }))
    }

    @Test("what PEFT wrote is read, and what we write reads back alike")
    func golden() throws {
        let json = try JSONValue(parsing: try Support.golden("peft/adapter_config.json"))
        let configuration = try AdapterConfiguration(json: json)
        #expect(configuration.rank == 4 && configuration.alpha == 6 && configuration.dropout == 0.05)
        #expect(configuration.usesRankStabilization)
        guard case .names(let names) = configuration.targetModules else {
            Issue.record("target_modules is no list")
            return
        }
        #expect(Set(names) == ["q_proj", "down_proj"])
        #expect(configuration.rankPattern == ["down_proj": 2])
        #expect(configuration.alphaPattern == ["layers.0.self_attn.q_proj": 3])
        #expect(configuration.layers == [0, 1])
        #expect(configuration.layersPatterns == ["layers"])
        #expect(configuration.baseModel == "tiny")
        #expect(try AdapterConfiguration(json: configuration.json) == configuration)
    }

    @Test("all forms of module choices")
    func modules() throws {
        #expect(try configuration(["target_modules": .string("all-linear")]).targetModules == .allLinear)
        #expect(try configuration(["target_modules": .string(".*q_proj")]).targetModules == .pattern(".*q_proj"))
        #expect(try configuration(["exclude_modules": .string("lm_.*")]).excludedModules == .pattern("lm_.*"))
        #expect(try configuration(["exclude_modules": .array([.string("a")])]).excludedModules == .names(["a"]))
        #expect(try configuration(["layers_to_transform": .integer(3)]).layers == [3])
        #expect(try configuration(["layers_pattern": .string("h")]).layersPatterns == ["h"])
        #expect(try configuration(["use_dora": .bool(true)]).decomposesWeights)
        #expect(try configuration(["use_dora": .bool(true)]).json["use_dora"] == .bool(true))
        for changes in [["target_modules": JSONValue.string("all-linear")], ["exclude_modules": .string("x")]] {
            let first = try configuration(changes)
            #expect(try AdapterConfiguration(json: first.json) == first)
        }
    }

    @Test(
        "values that change nothing are taken",
        arguments: [
            ("modules_to_save", .array([])), ("modules_to_save", .null), ("use_dora", .bool(false)),
            ("fan_in_fan_out", .bool(false)),
            ("init_lora_weights", .string("gaussian")), ("init_lora_weights", .bool(false)),
            ("megatron_core", .string("megatron.core")),
            ("qalora_group_size", .integer(16)), ("loftq_config", .object([:])),
            ("runtime_config", .object(["ephemeral_gpu_offload": .bool(false)])),
            ("a_future_key", .null), ("a_future_key", .bool(false)),
        ] as [(String, JSONValue)])
    func neutral(key: String, value: JSONValue) throws {
        #expect(try configuration([key: value]) == configuration([:]))
    }

    @Test(
        "what changes the arithmetic is refused by name",
        arguments: [
            ("bias", .string("all")), ("fan_in_fan_out", .bool(true)), ("use_dora", .integer(1)),
            ("lora_bias", .bool(true)),
            ("modules_to_save", .array([.string("lm_head")])), ("use_qalora", .bool(true)),
            ("layer_replication", .array([.array([.integer(0), .integer(4)])])),
            ("trainable_token_indices", .array([.integer(1)])), ("alora_invocation_tokens", .array([.integer(1)])),
            ("target_parameters", .array([.string("experts")])), ("megatron_config", .object(["a": .integer(1)])),
            ("init_lora_weights", .string("pissa")), ("init_lora_weights", .string("olora")),
            ("init_lora_weights", .string("loftq")),
            ("init_lora_weights", .string("corda")), ("peft_type", .string("IA3")),
            ("arrow_config", .object(["a": .integer(1)])),
            ("use_bdlora", .object(["a": .integer(1)])), ("kasa_config", .object(["a": .integer(1)])),
            ("a_future_key", .integer(1)),
            ("r", .integer(0)), ("r", .integer(1 << 40)), ("r", .string("8")), ("lora_alpha", .null),
            ("lora_dropout", .integer(1)),
            ("lora_dropout", .number(-0.1)), ("target_modules", .null), ("target_modules", .array([])),
            ("target_modules", .integer(1)),
            ("use_rslora", .integer(1)),
            ("rank_pattern", .object(["q": .integer(0)])), ("rank_pattern", .array([.integer(1)])),
            ("alpha_pattern", .object(["q": .string("1")])),
            ("layers_to_transform", .array([.integer(-1)])), ("layers_pattern", .array([.integer(1)])),
        ] as [(String, JSONValue)])
    func refused(key: String, value: JSONValue) {
        #expect(Support.message { _ = try configuration([key: value]) }.contains(key))
    }

    @Test("all that is wrong comes in one error")
    func together() {
        let message = Support.message {
            _ = try configuration([
                "bias": .string("all"), "use_dora": .string("yes"), "r": .integer(0), "new": .integer(1),
            ])
        }
        for key in ["bias", "use_dora", "r must be", "'new'"] { #expect(message.contains(key), "\(message)") }
        #expect(Support.message { _ = try AdapterConfiguration(json: .array([])) }.contains("an array"))
    }
}

@Suite("Adapter files")
struct AdapterFileTests {
    private func adapter() throws -> AdapterFile {
        let name = "base_model.model.model.layers.0.self_attn.q_proj"
        return try AdapterFile(
            configuration: AdapterConfiguration(
                rank: 2, alpha: 4, targetModules: .names(["q_proj"]), usesRankStabilization: true, baseModel: "tiny"),
            record: AdapterRecord(
                domain: "smart-home", baseFingerprint: String(repeating: "0a", count: 32), rank: 2, alpha: 4,
                targets: ["q_proj"], training: .object(["seed": .integer(0), "best_loss": .number(0.125)])),
            tensors: [
                try NamedTensor(
                    name: "\(name).lora_B.weight", type: .f32, shape: [3, 2], elements: [1, 2, 3, 4, 5, 6]),
                try NamedTensor(
                    name: "\(name).lora_A.weight", type: .f32, shape: [2, 4], elements: (0..<8).map { Float($0) }),
            ])
    }

    @Test("a round trip, the same bytes every time")
    func roundTrip() throws {
        try Support.withDirectory { directory in
            let path = directory + "/smart-home.lora"
            let written = try adapter()
            try written.write(path: path)
            let read = try AdapterFile.read(path: path)
            #expect(read.configuration == written.configuration)
            #expect(read.record == written.record)
            #expect(read.tensorDigest == written.tensorDigest)
            #expect(read.contentDigest == written.contentDigest)
            #expect(read.tensors.tensors == written.tensors.tensors)
            let b = try #require(
                read.tensors.tensor(named: "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"))
            #expect(try read.tensors.floats(of: b) == [1, 2, 3, 4, 5, 6])
            #expect(try read.serialized() == adapter().serialized())
            #expect(try Support.names(in: directory) == ["smart-home.lora"])
        }
    }

    @Test("unzipped it is a directory that reads alike")
    func unzipped() throws {
        try Support.withDirectory { directory in
            try adapter().write(path: directory + "/a.lora")
            let unzip = try runCommand(["unzip", "-q", "a.lora", "-d", "a"], directory: directory)
            try #require(unzip.status == 0, "\(unzip.output)")
            #expect(
                try Support.names(in: directory + "/a") == [
                    "adapter_config.json", "adapter_model.safetensors", "lora.json",
                ])
            let read = try AdapterFile.read(path: directory + "/a/")
            #expect(try read.serialized() == adapter().serialized())
        }
    }

    @Test("PEFT's own directory is read")
    func peft() throws {
        let read = try AdapterFile.read(path: Support.goldenPath("peft"))
        #expect(read.record.domain == "peft" && read.record.baseFingerprint == nil && read.record.rank == 4)
        let name = "base_model.model.model.layers.1.mlp.down_proj.lora_A.weight"
        #expect(try #require(read.tensors.tensor(named: name)).shape == [2, 24])
        #expect(read.tensors.tensors.count == 8)
    }

    /// The adapter's archive with entries replaced (or left out, where `nil`).
    private func archive(_ changes: KeyValuePairs<String, [UInt8]?>) throws -> [UInt8] {
        let whole = try ZipArchive(try adapter().serialized())
        return try ZipWriter.serialize(
            try whole.entries.compactMap { entry in
                let change = changes.first { $0.key == entry.name }
                let bytes = change == nil ? try whole.read(entry, limit: 1 << 20).array : change?.value
                return bytes.map { (entry.name, $0) }
            })
    }

    private func message(_ changes: KeyValuePairs<String, [UInt8]?>) throws -> String {
        try Support.withFile(try archive(changes)) { path in Support.message { _ = try AdapterFile.read(path: path) } }
    }

    @Test("missing and damaged entries are refused by name")
    func entries() throws {
        for name in ["adapter_config.json", "adapter_model.safetensors", "lora.json"] {
            #expect(try message([name: nil as [UInt8]?]).contains("no entry '\(name)'"))
            #expect(try message([name: Array("{".utf8)]).contains(name))
            #expect(try message([name: []]).contains(name))
        }
        let other = try SafetensorsWriter.serialize([])
        #expect(try message(["adapter_model.safetensors": other]).contains("SHA-256"))
        let big = Array("{".utf8) + [UInt8](repeating: 0x20, count: 1 << 20) + Array("}".utf8)
        #expect(try message(["adapter_config.json": big]).contains("more than the 1048576"))
    }

    @Test(
        "records that contradict or lack something are refused",
        arguments: [
            ("format_version", JSONValue.integer(2), "format version 2"),
            ("format_version", .null, "no adapter record"),
            ("domain", .integer(1), "domain"), ("base_fingerprint", .string("abc"), "base_fingerprint"),
            ("rank", .integer(3), "rank 3"),
            ("alpha", .string("4"), "alpha"), ("targets", .array([.integer(1)]), "targets"),
            ("training", .array([]), "training"),
            ("tensors_sha256", .string(String(repeating: "G", count: 64)), "tensors_sha256"),
            ("tensors_sha256", .string(String(repeating: "0", count: 64)), "SHA-256"),
        ])
    func records(key: String, value: JSONValue, part: String) throws {
        let file = try adapter()
        guard case .object(var members) = file.record.json(tensorDigest: file.tensorDigest) else { return }
        members[key] = value
        let text = Array(JSONValue.object(members).serialized().utf8)
        #expect(try message(["lora.json": text]).contains(part))
        members[key] = nil
        let without = try message(["lora.json": Array(JSONValue.object(members).serialized().utf8)])
        #expect(without.contains(key))
    }

    @Test("the limit on tensors is kept")
    func limit() throws {
        try Support.withFile(try adapter().serialized()) { path in
            #expect(
                Support.message { _ = try AdapterFile.read(path: path, maximumTensors: 100) }.contains(
                    "more than the 100"))
        }
        let path = Support.goldenPath("peft")
        #expect(
            Support.message { _ = try AdapterFile.read(path: path, maximumTensors: 100) }.contains("more than the 100"))
    }

    @Test("an unwritable place is refused and the old file stays")
    func unwritable() throws {
        let file = try adapter()
        #expect(
            Support.message { try file.write(path: "/proc/self/a.lora") }.hasPrefix("/proc/self/a.lora: cannot write"))
    }

    @Test("every truncation is refused; no changed byte crashes")
    func damage() throws {
        let bytes = try adapter().serialized()
        func read(_ bytes: [UInt8]) throws { _ = try AdapterFile.read(try ZipArchive(bytes), maximumTensors: 1 << 20) }
        Damage.truncate(bytes) { try read($0) }
        Damage.change(bytes) { try read($0) }
    }
}
