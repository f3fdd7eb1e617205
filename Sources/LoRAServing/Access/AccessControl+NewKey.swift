import LoRAFormats

extension AccessControl {
    /// Makes a key and adds its entry to a file of keys, which is made when there is none. Comments stay. Of several
    /// processes at once each adds its own.
    /// - Parameters:
    ///   - id: its name.
    ///   - adapters: names that it may use, with "*" for any characters.
    /// - Returns: the key, to be shown once: the file has only its hash.
    /// - Throws: `FormatError` when the file is bad, has this id already, or cannot be written; it is then as it was.
    public static func makeKey(
        id: String, adapters: [String] = [], allowsBase: Bool = true, isAdmin: Bool = false,
        limits: AccessKey.Limits = .init(), in path: String
    ) throws -> String {
        guard KeysFile.isID(id) else {
            throw FormatError("\(FormatError.quoted(id)) is no name for a key: \(KeysFile.idRule)")
        }
        for pattern in adapters where !KeysFile.isPattern(pattern) {
            throw FormatError("\(FormatError.quoted(pattern)) cannot be the name of an adapter")
        }
        let secret = "lora-" + KeyHash.randomDigits(bytes: 32)
        let key = AccessKey(
            id: id, isAdmin: isAdmin, allowsBase: allowsBase, adapters: adapters, limits: limits,
            hash: KeyHash(of: secret))
        let path = KeysFile.resolved(path)
        let lock = try FileLock(directoryOf: path)
        let old = try KeysFile(ifAt: path)
        try AtomicFile.write(KeysFile.text(old, adding: key, path: path), to: path, permissions: 0o600)
        old?.keepOwner(path: path)
        _ = consume lock
        return secret
    }
}

extension KeysFile {
    private static let header = """
        # Keys of lora serve-adapter: one entry each, made by lora serve-adapter --new-key NAME. The server reads this
        # file when it starts and on SIGHUP.

        """

    /// The text of a file with one more key.
    static func text(_ old: KeysFile?, adding key: AccessKey, path: String) throws -> String {
        if old?.keys.contains(where: { $0.id == key.id }) == true {
            throw FormatError("has a key '\(key.id)' already; take that out, or choose another name", file: path)
        }
        var text = old?.text ?? header
        if !text.isEmpty, text.utf8.last != UInt8(ascii: "\n") { text += "\n" }
        let indentation = String(repeating: " ", count: old?.indentation ?? 0)
        for (index, line) in lines(of: key).enumerated() {
            text += indentation + (index == 0 ? "- " : "  ") + line + "\n"
        }
        // Some lists cannot be continued by lines at their end.
        let isWhole = (try? KeysFile(text: text, path: path).keys) == (old?.keys ?? []) + [key]
        guard isWhole else {
            throw FormatError(
                "a key cannot be added to a list written this way; begin every key with '- ' on a line of its own",
                file: path)
        }
        return text
    }

    private static func lines(of key: AccessKey) -> [String] {
        func quoted(_ text: String) -> String { JSONValue.string(text).serialized() }
        var lines = ["id: \(quoted(key.id))", "hash: \(quoted(key.hash.description))"]
        if !key.adapters.isEmpty { lines.append("adapters: [\(key.adapters.map(quoted).joined(separator: ", "))]") }
        if !key.allowsBase { lines.append("base: false") }
        if key.isAdmin { lines.append("admin: true") }
        let limits = [
            ("requests_per_minute", key.limits.requestsPerMinute),
            ("concurrent_requests", key.limits.concurrentRequests), ("tokens_per_day", key.limits.tokensPerDay),
        ]
        for (name, limit) in limits { if let limit { lines.append("\(name): \(limit)") } }
        return lines
    }
}
