import Foundation
import LoRAFormats
import Testing

@testable import LoRAServing

@Suite("Access")
struct AccessTests {
    /// A directory of its own, gone with the test.
    final class Directory {
        let path = NSTemporaryDirectory() + "lora-access-\(UUID().uuidString)"
        var keys: String { path + "/keys.yaml" }
        init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
        deinit { try? FileManager.default.removeItem(atPath: path) }
        func write(_ text: String) throws {
            try text.write(toFile: keys, atomically: false, encoding: .utf8)
            try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: keys)
        }
        var text: String { get throws { try String(contentsOfFile: keys, encoding: .utf8) } }
    }

    static let salt = String(repeating: "0a", count: 16)
    static func hash(_ digit: Character) -> String { "sha256:\(salt):\(String(repeating: digit, count: 64))" }

    // MARK: Keys

    @Test(
        "A pattern allows whole names; a star stands for any characters",
        arguments: [
            ("a", "a", true), ("a", "ab", false), ("a", "", false), ("*", "", true), ("*", "x.y", true),
            ("acme-*", "acme-", true), ("acme-*", "acme-1", true), ("acme-*", "acme", false), ("*-v2", "a-v2-v2", true),
            ("*-v2", "a-v2-v3", false), ("a*b*c", "aXbYbZc", true), ("a*b*c", "aXbYc ", false), ("**", "x", true),
            ("a**b", "ab", true), ("*a*", "bab", true), ("*a*", "bbb", false), ("é*", "é1", true), ("A", "a", false),
        ])
    func patterns(pattern: String, name: String, expected: Bool) {
        #expect(
            AccessKey(id: "k", adapters: ["other", pattern]).allows(adapter: name) == (expected || name == "other"))
    }

    @Test("Stars of hostile length take no time to speak of")
    func longPatterns() {
        let key = AccessKey(id: "k", adapters: [String(repeating: "*a", count: 100) + "b"])
        #expect(!key.allows(adapter: String(repeating: "a", count: 5000)))
    }

    @Test("A hash knows its key and no other; its text says the same")
    func hashes() throws {
        let hash = KeyHash(of: "lora-1")
        #expect(hash.matches("lora-1") && !hash.matches("lora-2") && !hash.matches(""))
        #expect(KeyHash(hash.description) == hash && KeyHash(of: "lora-1") != hash)
        #expect(!KeyHash.none.matches(""))
        for text in [
            "", "sha256", "sha256::", "md5:\(Self.salt):\(Self.hash("0"))", Self.hash("g"), Self.hash("0") + "00",
        ] {
            #expect(KeyHash(text) == nil, "\(text)")
        }
        #expect(KeyHash("sha256:00:" + String(repeating: "0", count: 64)) == nil)
    }

    @Test("The hash is SHA-256 of the salt's bytes and the key")
    func knownHash() {
        // By Python's hashlib.
        let digest = "695ec06937e828acb0c46adacffbe0e2be309542e410c7dde866be233a9b07f0"
        #expect(KeyHash("sha256:\(Self.salt):\(digest)")?.matches("lora-abc") == true)
    }

    // MARK: The file

    @Test("A file gives its keys with all settings, and defaults for what it leaves out")
    func file() throws {
        let file = try KeysFile(
            text: """
                # comment
                - id: acme
                  hash: \(Self.hash("1"))
                  adapters:
                    - acme-*
                    - 2024
                  requests_per_minute: 60   # a second
                  concurrent_requests: 4
                  tokens_per_day: 1_000_000
                - {id: "ops", hash: "\(Self.hash("2"))", admin: true, base: no, adapters: ~}
                """, path: "keys.yaml")
        #expect(file.keys.map(\.id) == ["acme", "ops"] && file.warnings.isEmpty)
        let (acme, ops) = (file.keys[0], file.keys[1])
        #expect(acme.adapters == ["acme-*", "2024"] && acme.allowsBase && !acme.isAdmin)
        #expect(acme.limits == .init(requestsPerMinute: 60, concurrentRequests: 4, tokensPerDay: 1_000_000))
        #expect(ops.adapters == [] && !ops.allowsBase && ops.isAdmin && ops.limits == .init())
        for text in ["", "\n", "# nothing\n", "---\n", "[]", "null", "~\n"] {
            #expect(try KeysFile(text: text, path: "k").keys.isEmpty, "\(text)")
        }
    }

    @Test("Everything that is wrong is in one error, with its line")
    func problems() throws {
        let text = """
            - id: a b
              hash: sha256:12:34
              adaptors: [x]
            - just text
            - hash: \(Self.hash("1"))
              base: perhaps
              requests_per_minute: 0
              concurrent_requests: many
              tokens_per_day: -5
              adapters: all
            - id: twice
              hash: \(Self.hash("2"))
              adapters: [a/b, [x], "", ~]
            - id: twice
              hash: \(Self.hash("2"))
            """
        let error = try #require(throws: FormatError.self) { try KeysFile(text: text, path: "keys.yaml") }
        #expect(error.file == "keys.yaml" && !error.message.contains("\n"))
        for part in [
            "line 3: unknown setting 'adaptors'", "line 1: 'a b' is no id", "line 4: expected a key",
            "line 6: 'base' must be", "line 7: 'requests_per_minute' must", "line 8: 'concurrent_requests' must",
            "line 9: 'tokens_per_day' must", "line 10: 'adapters' must be a list", "line 5: a key needs an 'id'",
            "line 13: an adapter's name", "line 14: the id 'twice' is also on line 11",
            "line 15: the same hash is on line 12",
        ] { #expect(error.message.contains(part), "\(part) in: \(error.message)") }
        #expect(error.message.components(separatedBy: "line 13").count == 5)
        let many = String(repeating: "- x\n", count: 50)
        let cut = try #require(throws: FormatError.self) { try KeysFile(text: many, path: "k") }
        #expect(cut.message.hasSuffix("and 30 more"))
    }

    @Test(
        "What is no list of keys is refused with its line",
        arguments: [
            ("a: b", "line 1: expected a list"), ("- id: [", "line "), ("- id: a\n  id: b", "'id' is there twice"),
            ("\u{1}", "not YAML"), ("- a\n---\n- b", "not YAML"), ("- *a", "line 1"), ("text", "expected a list"),
            (String(repeating: "[", count: 100_000), "not YAML"),
        ])
    func noList(text: String, expected: String) throws {
        let error = try #require(throws: FormatError.self) { try KeysFile(text: text, path: "k") }
        #expect(error.message.contains(expected), "\(error.message)")
    }

    @Test("A file that is missing, a directory, not text or too large is refused; one that others can use warns")
    func unreadable() throws {
        let directory = try Directory()
        for path in [directory.keys, directory.path, "/dev/null"] {
            #expect(throws: FormatError.self) { try AccessControl(path: path) }
        }
        try Data([0x2D, 0x20, 0xFF]).write(to: URL(fileURLWithPath: directory.keys))
        #expect(throws: FormatError.self) { try AccessControl(path: directory.keys) }
        try Data(repeating: 0x20, count: 5 << 20).write(to: URL(fileURLWithPath: directory.keys))
        #expect(throws: FormatError.self) { try AccessControl(path: directory.keys) }
        try directory.write("- id: a\n  hash: \(Self.hash("1"))\n")
        #expect(try AccessControl(path: directory.keys).warnings == [])
        try FileManager.default.setAttributes([.posixPermissions: 0o640], ofItemAtPath: directory.keys)
        let control = try AccessControl(path: directory.keys)
        #expect(control.warnings.count == 1 && control.warnings[0].contains("640") && control.ids == ["a"])
    }

    // MARK: Keys in force

    @Test("A client's key is found by what it is; nothing else is one")
    func bearer() {
        let control = AccessControl(keys: ["lora-1": AccessKey(id: "a"), "lora-2": AccessKey(id: "b")])
        #expect(control.key(bearer: "lora-1")?.id == "a" && control.key(bearer: "lora-2")?.id == "b")
        for text in ["", "lora-3", "lora-1 ", "LORA-1", String(repeating: "x", count: 100_000)] {
            #expect(control.key(bearer: text) == nil)
        }
        let none = AccessControl(keys: [:])
        #expect(none.key(bearer: "") == nil)
    }

    @Test("Without a file everyone may do everything")
    func open() throws {
        let key = try #require(AccessControl.open.key(bearer: ""))
        #expect(key.id == "" && key.allows(adapter: "x") && key.allowsBase && key.isAdmin)
        #expect(AccessControl.open.key(bearer: "anything") == key)
        for _ in 0..<1000 { try AccessControl.open.admit(key).finish(tokens: 1_000_000) }
        try AccessControl.open.reload()
    }

    @Test("Reloading keeps what was used; a bad file changes nothing")
    func reload() throws {
        let directory = try Directory()
        let first = try AccessControl.makeKey(id: "a", limits: .init(concurrentRequests: 1), in: directory.keys)
        let control = try AccessControl(path: directory.keys)
        let before = try #require(control.key(bearer: first))
        let admission = try control.admit(before)
        let second = try AccessControl.makeKey(id: "b", in: directory.keys)
        #expect(control.key(bearer: second) == nil)
        try control.reload()
        #expect(control.key(bearer: second)?.id == "b")
        let after = try #require(control.key(bearer: first))
        #expect(throws: LimitExceeded.self) { try control.admit(after) }
        admission.finish(tokens: 1)
        let next = try control.admit(after)
        let good = try directory.text
        try directory.write(good + "- nonsense")
        #expect(throws: FormatError.self) { try control.reload() }
        #expect(control.key(bearer: second)?.id == "b" && control.ids == ["a", "b"])
        try directory.write(good.components(separatedBy: "- id: \"b\"")[0])
        try control.reload()
        #expect(control.key(bearer: second) == nil && control.key(bearer: first) != nil)
        next.finish(tokens: 0)
    }

    // MARK: New keys

    @Test("A new key works, stands in the file only as a hash, and is the owner's alone")
    func newKey() throws {
        let directory = try Directory()
        let limits = AccessKey.Limits(requestsPerMinute: 5, concurrentRequests: 2, tokensPerDay: 9)
        let text = try AccessControl.makeKey(
            id: "acme", adapters: ["acme-*", "it's \"x\": #1"], allowsBase: false, limits: limits, in: directory.keys)
        #expect(text.hasPrefix("lora-") && text.utf8.count == 5 + 64)
        let attributes = try FileManager.default.attributesOfItem(atPath: directory.keys)
        #expect(attributes[.posixPermissions] as? Int == 0o600)
        #expect(!(try directory.text.contains(text.dropFirst(5))))
        let admin = try AccessControl.makeKey(id: "ops", isAdmin: true, in: directory.keys)
        #expect(admin != text)
        let control = try AccessControl(path: directory.keys)
        let key = try #require(control.key(bearer: text))
        #expect(key.id == "acme" && key.adapters == ["acme-*", "it's \"x\": #1"] && !key.allowsBase && !key.isAdmin)
        #expect(key.limits == limits && control.warnings == [])
        #expect(control.key(bearer: admin)?.isAdmin == true && control.key(bearer: admin)?.allowsBase == true)
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["keys.yaml"])
    }

    @Test(
        "A new entry leaves the others and their comments as they are",
        arguments: [
            "", "# none yet", "- id: a\n  hash: HASH # mine\n\n# end", "  - id: a\n    hash: HASH",
            "---\n- {id: a, hash: \"HASH\"}\r\n",
        ])
    func appending(text: String) throws {
        let directory = try Directory()
        let old = text.replacing("HASH", with: Self.hash("3"))
        try directory.write(old)
        try FileManager.default.setAttributes([.posixPermissions: 0o640], ofItemAtPath: directory.keys)
        let before = try KeysFile(path: directory.keys).keys
        let key = try AccessControl.makeKey(id: "new", adapters: ["x"], in: directory.keys)
        #expect(try directory.text.hasPrefix(old))
        let control = try AccessControl(path: directory.keys)
        #expect(control.ids == before.map(\.id) + ["new"] && control.key(bearer: key)?.id == "new")
        let attributes = try FileManager.default.attributesOfItem(atPath: directory.keys)
        #expect(attributes[.posixPermissions] as? Int == 0o640, "permissions that the operator chose stay")
    }

    @Test("What cannot be done leaves the file as it was")
    func refusedKeys() throws {
        let directory = try Directory()
        #expect(throws: FormatError.self) { try AccessControl.makeKey(id: "a b", in: directory.keys) }
        #expect(throws: FormatError.self) { try AccessControl.makeKey(id: "a", adapters: ["x/y"], in: directory.keys) }
        #expect(throws: FormatError.self) { try AccessControl.makeKey(id: "a", in: directory.path + "/no/keys.yaml") }
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
        for text in [
            "- id: a\n  hash: \(Self.hash("1"))\n", "[]", "- id: b\n  hash: \(Self.hash("1"))\n...\n", "- broken",
            "[{id: b, hash: \"\(Self.hash("1"))\"}]",
        ] {
            try directory.write(text)
            #expect(throws: FormatError.self) { try AccessControl.makeKey(id: "a", in: directory.keys) }
            #expect(try directory.text == text)
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["keys.yaml"])
    }

    @Test("Keys made at once are all there; a link to the file stays one")
    func atOnce() async throws {
        let directory = try Directory()
        let path = directory.keys
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<24 {
                group.addTask { _ = try AccessControl.makeKey(id: "key-\(index)", in: path) }
            }
            try await group.waitForAll()
        }
        #expect(try Set(AccessControl(path: path).ids) == Set((0..<24).map { "key-\($0)" }))
        let link = directory.path + "/link.yaml"
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: path)
        let key = try AccessControl.makeKey(id: "by-link", in: link)
        #expect(try FileManager.default.destinationOfSymbolicLink(atPath: link) == path)
        #expect(try AccessControl(path: path).key(bearer: key)?.id == "by-link")
    }
}
