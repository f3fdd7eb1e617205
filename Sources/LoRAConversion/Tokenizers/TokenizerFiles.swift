import Glibc
import LoRAFormats

/// The files in which Hugging Face keeps a tokenizer; only tokenizer.json must exist.
struct TokenizerFiles {
    /// The largest published tokenizer.json has about 35 MB.
    private static let limit = 256 << 20

    private let directory: String
    /// tokenizer.json, whose `vocab` is an array of [token, id].
    let tokenizer: JSONValue
    /// tokenizer_config.json, special_tokens_map.json, config.json and generation_config.json; null when absent.
    var configuration = JSONValue.null
    var specialTokens = JSONValue.null
    var model = JSONValue.null
    var generation = JSONValue.null
    /// chat_template.jinja, or what chat_template.json has.
    var chatTemplate: String?

    init(directory: String) throws {
        try self.init(directory: directory) { path in
            guard access(path, F_OK) == 0 else { return nil }
            return try MappedFile.contents(path: path, limit: Self.limit)
        }
    }

    /// - Parameter read: The bytes of a file by its path, or nil when there is none.
    init(directory: String, read: (String) throws -> [UInt8]?) throws {
        func json(_ name: String) throws -> JSONValue {
            let path = directory + "/" + name
            guard let bytes = try read(path) else { return .null }
            let value = try FormatError.relocating(in: path) { try JSONValue(parsing: bytes) }
            guard value.objectValue != nil else { throw FormatError("is \(value.kind), not an object", file: path) }
            return value
        }
        self.directory = directory
        let path = directory + "/tokenizer.json"
        guard let bytes = try read(path) else {
            throw FormatError(
                "there is no tokenizer.json; save the tokenizer with transformers (save_pretrained) to get one",
                file: path)
        }
        tokenizer = try FormatError.relocating(in: path) {
            try JSONValue(parsing: bytes, listing: "vocab")
        }
        configuration = try json("tokenizer_config.json")
        specialTokens = try json("special_tokens_map.json")
        model = try json("config.json")
        generation = try json("generation_config.json")
        chatTemplate = try read(directory + "/chat_template.jinja").map { String(decoding: $0, as: UTF8.self) }
        if chatTemplate == nil { chatTemplate = try json("chat_template.json")["chat_template"]?.stringValue }
    }

    /// tokenizer.json.
    var path: String { directory + "/tokenizer.json" }

    /// The default template, and named ones (for tools, say) under names of their own.
    func chatTemplateKeys() throws -> [(key: String, value: GGUFValue)] {
        if let chatTemplate { return [("tokenizer.chat_template", .string(chatTemplate))] }
        switch configuration["chat_template"] {
        case .string(let template): return [("tokenizer.chat_template", .string(template))]
        case .array(let entries): return try namedTemplates(entries)
        case nil, .null: return []
        case .some(let other):
            throw FormatError(
                "chat_template is \(other.kind); expected a string or a list",
                file: directory + "/tokenizer_config.json")
        }
    }

    private func namedTemplates(_ entries: [JSONValue]) throws -> [(key: String, value: GGUFValue)] {
        var keys: [(key: String, value: GGUFValue)] = []
        var names: Set<String> = []
        for entry in entries {
            guard let name = entry["name"]?.stringValue, let template = entry["template"]?.stringValue,
                names.insert(name).inserted
            else {
                throw FormatError(
                    "an entry of chat_template has no name of its own or no template",
                    file: directory + "/tokenizer_config.json")
            }
            let suffix = name == "default" ? "" : "." + name
            keys.append(("tokenizer.chat_template" + suffix, .string(template)))
        }
        names.remove("default")
        if !names.isEmpty { keys.append(("tokenizer.chat_templates", .strings(names.sorted()))) }
        return keys
    }
}
