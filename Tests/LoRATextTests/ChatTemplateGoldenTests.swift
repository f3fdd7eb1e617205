import LoRAFormats
import LoRAText
import OrderedCollections
import Testing

#if canImport(Glibc)
    import Glibc
#endif

/// Files beside the tests, read without Foundation.
enum TemplateFixture {
    static let goldens = #filePath.split(separator: "/").dropLast().map(String.init).joined(separator: "/")

    static func text(_ name: String) throws -> String {
        let path = "/\(goldens)/Goldens/\(name)"
        let file = try #require(fopen(path, "rb"), "\(path) cannot be read")
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while case let count = fread(&chunk, 1, chunk.count, file), count > 0 { bytes += chunk[..<count] }
        return String(decoding: bytes, as: UTF8.self)
    }

    static func json(_ name: String) throws -> JSONValue { try JSONValue(parsing: try text(name)) }

    /// The variables that Scripts/template_goldens.py gave.
    static func variables(_ conversation: JSONValue) throws -> OrderedDictionary<String, JSONValue> {
        var variables: OrderedDictionary<String, JSONValue> = [
            "bos_token": .string("<s>"), "eos_token": .string("</s>"), "add_generation_prompt": .bool(true),
        ]
        variables.merge(try #require(conversation.objectValue)) { $1 }
        return ChatTemplate.completed(variables)
    }
}

@Suite("Chat templates against transformers' renderer")
struct ChatTemplateGoldenTests {
    static let templates = [
        "alpaca", "call_blocks", "chatml", "chatml_default_system", "command_r", "deepseek", "gemma",
        "generation_blocks", "granite", "grouped", "harmony", "llama2", "llama3", "llama3_tools", "mistral",
        "numbers_and_slices", "parts", "phi", "python_repr", "qwen_tools", "reversed_window", "strict_roles",
        "tool_schema", "vicuna", "whitespace_control", "zephyr",
    ]

    /// Expects `golden`: a text byte for byte, or a refusal, with its message when the template itself refuses.
    private func check(
        _ golden: JSONValue, _ source: String, _ variables: OrderedDictionary<String, JSONValue>, _ place: String
    ) {
        do {
            let text = try ChatTemplate(source: source).render(variables)
            guard let expected = golden.stringValue else {
                Issue.record("\(place): rendered \(text.debugDescription), but transformers refuses")
                return
            }
            #expect(Array(text.utf8) == Array(expected.utf8), "\(place): \(text.debugDescription)")
        } catch let error as TemplateError {
            guard golden.stringValue == nil else {
                Issue.record("\(place): \(error), but transformers renders")
                return
            }
            #expect(error.line >= 1)
            if let message = golden["raise"]?.stringValue { #expect(error.message == message, "\(place)") }
        } catch {
            Issue.record("\(place): \(error)")
        }
    }

    @Test("The checked-in templates are all in the list")
    func everyTemplateIsListed() throws {
        let golden = try #require(try TemplateFixture.json("template_golden.json").objectValue)
        #expect(Array(golden.keys) == Self.templates)
    }

    @Test("Every conversation renders as in transformers", arguments: templates)
    func conversations(template: String) throws {
        let source = try TemplateFixture.text("templates/\(template).jinja")
        let golden = try #require(try TemplateFixture.json("template_golden.json")[template]?.objectValue)
        let conversations = try #require(try TemplateFixture.json("template_conversations.json").objectValue)
        #expect(golden.count == conversations.count && conversations.count >= 20)
        for (name, conversation) in conversations {
            check(
                try #require(golden[name]), source, try TemplateFixture.variables(conversation), "\(template), \(name)")
        }
    }

    @Test("Every snippet renders, or is refused, as in transformers")
    func snippets() throws {
        let snippets = try #require(try TemplateFixture.json("template_snippets.json").arrayValue)
        let golden = try #require(try TemplateFixture.json("template_snippets_golden.json").arrayValue)
        let conversation = try JSONValue(
            parsing: """
                {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"},
                {"role": "assistant", "content": "A"}]}
                """)
        #expect(golden.count == snippets.count && snippets.count > 200)
        let variables = try TemplateFixture.variables(conversation)
        for (snippet, golden) in zip(snippets, golden) {
            let source = try #require(snippet.stringValue)
            check(golden, source, variables, source)
        }
    }
}
