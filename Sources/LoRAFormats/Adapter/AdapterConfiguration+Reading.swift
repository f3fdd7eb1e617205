import OrderedCollections

extension AdapterConfiguration {
    /// Ranks above this are refused: no layer of a model that fits a machine has more rows.
    static let maximumRank = 1 << 16

    /// Reads the content of an `adapter_config.json`.
    /// - Throws: `FormatError` that names every key which is wrong, missing, or changes the arithmetic in a way that is
    ///   not supported.
    public init(json: JSONValue) throws {
        guard let members = json.objectValue else {
            throw FormatError("is \(json.kind), expected an object with PEFT's configuration")
        }
        var reader = Reader(members)
        let rank = reader.integer("r") ?? 0
        let alpha = reader.number("lora_alpha") ?? 0
        if !(1...Self.maximumRank).contains(rank) { reader.flaw("r must be from 1 to \(Self.maximumRank)") }
        let dropout = members["lora_dropout"] == nil ? 0 : reader.number("lora_dropout") ?? 0
        if !(0..<1).contains(dropout) { reader.flaw("lora_dropout must be at least 0 and below 1") }
        self.init(
            rank: rank, alpha: alpha, targetModules: reader.modules("target_modules") ?? .names([]), dropout: dropout,
            usesRankStabilization: reader.flag("use_rslora"), decomposesWeights: reader.flag("use_dora"),
            baseModel: members["base_model_name_or_path"]?.stringValue)
        if targetModules == .names([]) { reader.flaw("target_modules names no module") }
        excludedModules = reader.modules("exclude_modules")
        layers = reader.layers("layers_to_transform")
        layersPatterns = reader.strings("layers_pattern")
        for (key, value) in reader.object("rank_pattern") {
            guard let rank = value.intValue, (1...Self.maximumRank).contains(rank) else {
                reader.flaw("rank_pattern \(FormatError.quoted(key)) must be from 1 to \(Self.maximumRank)")
                continue
            }
            rankPattern[key] = rank
        }
        for (key, value) in reader.object("alpha_pattern") {
            guard let alpha = value.doubleValue, Float(alpha).isFinite else {
                reader.flaw("alpha_pattern \(FormatError.quoted(key)) must be a number")
                continue
            }
            alphaPattern[key] = alpha
        }
        reader.checkUnsupported()
        guard reader.flaws.isEmpty else {
            throw FormatError("this adapter cannot be used: " + reader.flaws.joined(separator: "; "))
        }
    }

    /// Takes typed members out of an object and collects all that is wrong with them.
    private struct Reader {
        let members: OrderedDictionary<String, JSONValue>
        private(set) var flaws: [String] = []

        init(_ members: OrderedDictionary<String, JSONValue>) { self.members = members }

        mutating func flaw(_ text: String) { flaws.append(text) }

        private mutating func flaw(_ key: String, expected: String) {
            let found = members[key].map { "\($0.serialized().prefix(60))" } ?? "missing"
            flaws.append("\(key) is \(found), expected \(expected)")
        }

        mutating func integer(_ key: String) -> Int? {
            if let value = members[key]?.intValue { return value }
            flaw(key, expected: "an integer")
            return nil
        }

        mutating func number(_ key: String) -> Double? {
            if let value = members[key]?.doubleValue, Float(value).isFinite { return value }
            flaw(key, expected: "a number")
            return nil
        }

        mutating func flag(_ key: String) -> Bool {
            switch members[key] {
            case nil, .null: return false
            case .bool(let value): return value
            default:
                flaw(key, expected: "true or false")
                return false
            }
        }

        mutating func object(_ key: String) -> OrderedDictionary<String, JSONValue> {
            switch members[key] {
            case nil, .null: return [:]
            case .object(let value): return value
            default:
                flaw(key, expected: "an object")
                return [:]
            }
        }

        /// A list of strings, or one string in place of a list of one.
        mutating func strings(_ key: String) -> [String] {
            switch members[key] {
            case nil, .null: return []
            case .string(let value): return value.isEmpty ? [] : [value]
            case .array(let values) where values.allSatisfy { $0.stringValue != nil }:
                return values.compactMap(\.stringValue)
            default:
                flaw(key, expected: "strings")
                return []
            }
        }

        mutating func layers(_ key: String) -> [Int]? {
            switch members[key] {
            // PEFT takes an empty list as no choice.
            case nil, .null, .array([]): return nil
            case .integer(let value) where value >= 0: return [Int(value)]
            case .array(let values) where values.allSatisfy { ($0.intValue ?? -1) >= 0 }:
                return values.compactMap(\.intValue)
            default:
                flaw(key, expected: "layer numbers")
                return nil
            }
        }

        mutating func modules(_ key: String) -> Modules? {
            switch members[key] {
            case nil, .null: return nil
            case .string(let name) where key == "target_modules" && name.lowercased() == "all-linear":
                return .allLinear
            case .string(let pattern): return .pattern(pattern)
            default: return .names(strings(key))
            }
        }

        // MARK: What changes the arithmetic

        /// Keys whose values this reader takes, or that change nothing once an adapter is trained.
        private static let known: Set<String> = [
            "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "target_modules", "exclude_modules",
            "layers_to_transform",
            "layers_pattern", "rank_pattern", "alpha_pattern", "base_model_name_or_path", "task_type", "peft_type",
            "bias",
            "init_lora_weights", "inference_mode", "auto_mapping", "revision", "peft_version", "megatron_core",
            "loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size", "runtime_config",
        ]
        /// Ways to initialise that leave the base's weights as they are; the others subtract from them, and the adapter
        /// would only fit the changed base.
        private static let plainInitializations: Set<String> = ["gaussian", "eva", "orthogonal"]

        /// Refuses every other key, known to PEFT or not, unless its value says that it is off.
        mutating func checkUnsupported() {
            if let type = members["peft_type"], type != .string("LORA") { flaw("peft_type", expected: "\"LORA\"") }
            if let bias = members["bias"], bias != .string("none") { flaw("bias", expected: "\"none\"") }
            switch members["init_lora_weights"] {
            case nil, .null, .bool: break
            case .string(let name) where Self.plainInitializations.contains(name.lowercased()): break
            default:
                flaw(
                    "init_lora_weights",
                    expected: "true (it changed the base; save with PEFT's path_initial_model_for_weight_conversion)")
            }
            for (key, value) in members where !Self.known.contains(key) && !Self.isOff(value) {
                flaws.append("\(FormatError.quoted(key)) is \(value.serialized().prefix(60)), which is not supported")
            }
        }

        private static func isOff(_ value: JSONValue) -> Bool {
            switch value {
            case .null, .bool(false): true
            case .array(let elements): elements.isEmpty
            case .object(let members): members.isEmpty
            case .string(let text): text.isEmpty
            default: false
            }
        }
    }
}
