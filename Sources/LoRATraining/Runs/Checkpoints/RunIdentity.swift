internal import LoRAFormats
internal import LoRAModel
internal import OrderedCollections

/// Everything that decides what a run computes. Two runs with the same identity compute the same, step by step.
struct RunIdentity: Equatable {
    /// Digests of what the run reads, by role: base, data, validation data, initial adapter.
    let sources: OrderedDictionary<String, JSONValue>
    /// By the names of the options.
    let options: OrderedDictionary<String, JSONValue>

    var json: JSONValue { .object(["sources": .object(sources), "options": .object(options)]) }

    init(_ setup: TrainingSetup) {
        sources = [
            "base": .string(BaseFingerprint.fingerprint(of: setup.base.file)),
            "data": .string(setup.dataset.digest),
            "validation data": setup.validation.map { .string($0.digest) } ?? .null,
            "initial adapter": setup.initialAdapterDigest.map { .string($0) } ?? .null,
        ]
        options = setup.options.resolved
    }

    /// - Returns: nil when `json` is not what `json` writes.
    init?(json: JSONValue) {
        guard let sources = json["sources"]?.objectValue, let options = json["options"]?.objectValue else { return nil }
        self.sources = sources
        self.options = options
    }

    /// What is different in `other`, each as "name: this, there that"; empty when they are equal.
    func differences(from other: RunIdentity) -> [String] {
        let sourceNames = OrderedSet(sources.keys).union(other.sources.keys)
        let optionNames = OrderedSet(options.keys).union(other.options.keys)
        return sourceNames.filter { sources[$0] != other.sources[$0] }.map { "other \($0)" }
            + optionNames.filter { options[$0] != other.options[$0] }.map { name in
                "--\(name) \(Self.text(options[name])) (there \(Self.text(other.options[name])))"
            }
    }

    private static func text(_ value: JSONValue?) -> String {
        guard let value, !value.isNull else { return "unset" }
        return value.stringValue ?? value.serialized()
    }
}
