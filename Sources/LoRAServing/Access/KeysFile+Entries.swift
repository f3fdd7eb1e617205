import LoRAFormats
import OrderedCollections

extension KeysFile {
    /// Reads entries and collects what is wrong with them.
    struct EntryReader {
        /// Each with its line.
        private(set) var problems: [String] = []

        /// Lines of what was seen, to find it twice.
        private var ids: [String: Int] = [:]
        private var hashes: [String: Int] = [:]

        private static let fields = [
            "id", "hash", "adapters", "base", "admin", "requests_per_minute", "concurrent_requests", "tokens_per_day",
        ]
        private static let maximumPatterns = 10_000

        /// The key of an entry; nil when there are problems.
        mutating func key(from node: YAMLNode) -> AccessKey? {
            guard let entry = node.mapping else {
                note(node.line, "expected a key with 'id' and 'hash'")
                return nil
            }
            for (name, member) in entry where !Self.fields.contains(name) {
                let known = Self.fields.joined(separator: ", ")
                note(member.line, "unknown setting \(FormatError.quoted(name)); there are \(known)")
            }
            let values = entry.mapValues(\.value)
            let limits = AccessKey.Limits(
                requestsPerMinute: count(values["requests_per_minute"], "requests_per_minute"),
                concurrentRequests: count(values["concurrent_requests"], "concurrent_requests"),
                tokensPerDay: count(values["tokens_per_day"], "tokens_per_day"))
            let (isAdmin, allowsBase) = (flag(values["admin"], "admin"), flag(values["base"], "base"))
            let adapters = patterns(values["adapters"])
            guard let id = id(values["id"], in: node), let hash = hash(values["hash"], in: node) else { return nil }
            return AccessKey(
                id: id, isAdmin: isAdmin ?? false, allowsBase: allowsBase ?? true, adapters: adapters, limits: limits,
                hash: hash)
        }

        // MARK: Settings

        private mutating func id(_ value: YAMLNode?, in entry: YAMLNode) -> String? {
            guard let value, let id = value.text else {
                note((value ?? entry).line, "a key needs an 'id'")
                return nil
            }
            guard KeysFile.isID(id) else {
                note(value.line, "\(FormatError.quoted(id)) is no id: \(KeysFile.idRule)")
                return nil
            }
            if let line = ids[id] { note(value.line, "the id '\(id)' is also on line \(line)") }
            ids[id] = value.line
            return id
        }

        private mutating func hash(_ value: YAMLNode?, in entry: YAMLNode) -> KeyHash? {
            guard let value, let text = value.text, let hash = KeyHash(text) else {
                note((value ?? entry).line, "a key needs a 'hash', as lora serve-adapter --new-key makes it")
                return nil
            }
            if let line = hashes[text] { note(value.line, "the same hash is on line \(line)") }
            hashes[text] = value.line
            return hash
        }

        private mutating func flag(_ value: YAMLNode?, _ name: String) -> Bool? {
            guard let value, !value.isNothing else { return nil }
            if let flag = value.json.boolValue { return flag }
            note(value.line, "'\(name)' must be true or false")
            return nil
        }

        private mutating func count(_ value: YAMLNode?, _ name: String) -> Int? {
            guard let value, !value.isNothing else { return nil }
            if let count = value.json.intValue, count > 0 { return count }
            note(value.line, "'\(name)' must be a whole number above 0; leave it out for no limit")
            return nil
        }

        private mutating func patterns(_ value: YAMLNode?) -> [String] {
            guard let value, !value.isNothing else { return [] }
            guard let list = value.list, list.count <= Self.maximumPatterns else {
                note(value.line, "'adapters' must be a list of names, such as [acme-*, shared]")
                return []
            }
            return list.compactMap { node in
                if let pattern = node.text, KeysFile.isPattern(pattern) { return pattern }
                note(node.line, "an adapter's name is text of 1 to 255 bytes without '/' and control characters")
                return nil
            }
        }

        private mutating func note(_ line: Int, _ problem: String) { problems.append("line \(line): \(problem)") }
    }

    // MARK: Rules

    static let idRule = "use 1 to 64 letters, digits, '.', '_' or '-' (A-Z, a-z, 0-9)"

    static func isID(_ text: String) -> Bool {
        (1...64).contains(text.utf8.count)
            && text.unicodeScalars.allSatisfy { scalar in
                ("a"..."z").contains(scalar) || ("A"..."Z").contains(scalar) || ("0"..."9").contains(scalar)
                    || [".", "_", "-"].contains(scalar)
            }
    }

    static func isPattern(_ text: String) -> Bool {
        (1...255).contains(text.utf8.count)
            && text.unicodeScalars.allSatisfy { $0 != "/" && $0.value >= 0x20 && !(0x7F..<0xA0).contains($0.value) }
    }
}
