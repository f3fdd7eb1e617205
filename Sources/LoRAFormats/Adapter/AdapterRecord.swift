public import OrderedCollections

/// Where an adapter comes from: the content of `lora.json`.
public struct AdapterRecord: Sendable, Hashable {
    /// The only version there is so far.
    public static let formatVersion = 1

    /// The customer's area that the adapter was trained for.
    public var domain: String
    /// `BaseFingerprint` of the base, 64 hexadecimal digits; `nil` when the adapter was trained elsewhere.
    public var baseFingerprint: String?
    public var rank: Int
    public var alpha: Double
    /// Names of the target modules, such as `q_proj`.
    public var targets: [String]
    /// Data digest, counts, hyperparameters, seed, tool version, losses, date; an object.
    public var training: JSONValue

    public init(
        domain: String, baseFingerprint: String?, rank: Int, alpha: Double, targets: [String],
        training: JSONValue = .object([:])
    ) {
        self.domain = domain
        self.baseFingerprint = baseFingerprint
        self.rank = rank
        self.alpha = alpha
        self.targets = targets
        self.training = training
    }

    /// The content of `lora.json`; `tensorDigest` is the SHA-256 of the tensor entry.
    func json(tensorDigest: String) -> JSONValue {
        .object([
            "format_version": .integer(Int64(Self.formatVersion)),
            "domain": .string(domain),
            "base_fingerprint": baseFingerprint.map { .string($0) } ?? .null,
            "rank": .integer(Int64(rank)),
            "alpha": Int64(exactly: alpha).map { .integer($0) } ?? .number(alpha),
            "targets": .array(targets.map { .string($0) }),
            "training": training,
            "tensors_sha256": .string(tensorDigest),
        ])
    }

    /// Reads `lora.json`, with the SHA-256 that it states for the tensor entry.
    static func parse(_ json: JSONValue) throws(FormatError) -> (record: AdapterRecord, tensorDigest: String) {
        guard let version = json["format_version"]?.intValue else {
            throw FormatError("format_version is missing; this is no adapter record")
        }
        guard version == formatVersion else {
            throw FormatError("format version \(version), but only \(formatVersion) can be read; update lora")
        }
        var flaws: [String] = []
        func take<Value>(_ key: String, _ expected: String, _ convert: (JSONValue) -> Value?) -> Value? {
            guard let value = json[key] else {
                flaws.append("\(key) is missing")
                return nil
            }
            guard let result = convert(value) else {
                flaws.append("\(key) is \(value.kind), expected \(expected)")
                return nil
            }
            return result
        }
        let domain = take("domain", "a string", \.stringValue)
        let fingerprint = take("base_fingerprint", "64 hexadecimal digits or null") { value -> String?? in
            value.isNull ? .some(nil) : Digest.isHexadecimal(value.stringValue) ? .some(value.stringValue) : nil
        }
        let rank = take("rank", "an integer", \.intValue)
        let alpha = take("alpha", "a number", \.doubleValue)
        let targets = take("targets", "an array of strings") { value -> [String]? in
            let names = value.arrayValue?.map(\.stringValue)
            return names?.contains(nil) ?? true ? nil : names?.compactMap { $0 }
        }
        let training = take("training", "an object") { $0.objectValue == nil ? nil : $0 }
        let digest = take("tensors_sha256", "64 hexadecimal digits") {
            Digest.isHexadecimal($0.stringValue) ? $0.stringValue : nil
        }
        guard let domain, let fingerprint, let rank, let alpha, let targets, let training, let digest else {
            throw FormatError(flaws.joined(separator: "; "))
        }
        let record = AdapterRecord(
            domain: domain, baseFingerprint: fingerprint, rank: rank, alpha: alpha, targets: targets, training: training
        )
        return (record, digest)
    }
}
