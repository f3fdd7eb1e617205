import LoRAFormats
import LoRAText
import OrderedCollections
import Testing

@Suite("Assistant spans")
struct ChatTemplateSpanTests {
    static func conversation(_ turns: [(String, String)]) -> OrderedDictionary<String, JSONValue> {
        let messages = turns.map { JSONValue.object(["role": .string($0.0), "content": .string($0.1)]) }
        return ["messages": .array(messages)]
    }

    static let multiTurn = conversation([
        ("system", "Sei höflich."), ("user", "1+1?"), ("assistant", "Zwei – 2 👍"), ("user", "und 2+2?"),
        ("assistant", ""), ("assistant", "Vier."),
    ])

    private func texts(_ rendered: (text: String, spans: [Range<Int>])) -> [String] {
        let bytes = Array(rendered.text.utf8)
        return rendered.spans.map { String(decoding: bytes[$0], as: UTF8.self) }
    }

    @Test("ChatML: each span is the answer and the end of its turn")
    func chatML() throws {
        let template = try ChatTemplate(source: try TemplateFixture.text("templates/chatml.jinja"))
        let rendered = try template.renderWithAssistantSpans(Self.multiTurn)
        #expect(texts(rendered) == ["Zwei – 2 👍<|im_end|>\n", "<|im_end|>\n", "Vier.<|im_end|>\n"])
        var variables = Self.multiTurn
        variables["add_generation_prompt"] = .bool(false)
        #expect(rendered.text == (try template.render(variables)))
    }

    @Test("A generation prompt asked for does not lengthen the text")
    func generationPromptIsIgnored() throws {
        let template = try ChatTemplate(source: try TemplateFixture.text("templates/chatml.jinja"))
        var variables = Self.conversation([("user", "a"), ("assistant", "b")])
        variables["add_generation_prompt"] = .bool(true)
        let rendered = try template.renderWithAssistantSpans(variables)
        #expect(rendered.text == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n")
        #expect(texts(rendered) == ["b<|im_end|>\n"])
    }

    @Test("SmolLM2's own template, which inserts a system message")
    func baseModel() throws {
        let root = TemplateFixture.goldens.split(separator: "/").dropLast(2).joined(separator: "/")
        let base = try GGUFFile(path: "/\(root)/models/base.bin")
        guard case .string(let source)? = base.metadata["tokenizer.chat_template"] else {
            Issue.record("the base has no chat template")
            return
        }
        let template = try ChatTemplate(source: source)
        let rendered = try template.renderWithAssistantSpans(
            Self.conversation([("user", "Hi"), ("assistant", "Hello."), ("user", "Bye"), ("assistant", "Bye bye.")]))
        let system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
        let expected =
            "<|im_start|>system\n\(system)<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello."
            + "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\nBye bye.<|im_end|>\n"
        #expect(rendered.text == expected)
        #expect(texts(rendered) == ["Hello.<|im_end|>\n", "Bye bye.<|im_end|>\n"])
    }

    @Test("Generation blocks say it themselves, in bytes")
    func generationBlocks() throws {
        let template = try ChatTemplate(source: try TemplateFixture.text("templates/generation_blocks.jinja"))
        #expect(template.marksGeneration)
        let rendered = try template.renderWithAssistantSpans(Self.multiTurn)
        #expect(texts(rendered) == ["Zwei – 2 👍<|end|>", "<|end|>", "Vier.<|end|>"])
    }

    @Test("A generation block inside a macro is refused with its line")
    func unplacedGeneration() throws {
        let source = "{% macro m(x) %}\n{% generation %}{{ x }}{% endgeneration %}{% endmacro %}{{ m('a') }}"
        #expect(throws: TemplateError.self) {
            try ChatTemplate(source: source).renderWithAssistantSpans(Self.multiTurn)
        }
        do {
            _ = try ChatTemplate(source: source).renderWithAssistantSpans(Self.multiTurn)
        } catch let error as TemplateError {
            #expect(error.line == 2)
        }
    }

    @Test("A template that rewrites earlier turns is refused with the message's number")
    func rewrittenTurns() throws {
        let source = """
            {% for m in messages %}{{ m.role }}: {{ m.content if loop.last or m.role == 'user' else '(cut)' }}
            {% endfor %}{% if add_generation_prompt %}assistant: {% endif %}
            """
        let template = try ChatTemplate(source: source)
        let rendered = try template.renderWithAssistantSpans(Self.conversation([("user", "a"), ("assistant", "b")]))
        #expect(texts(rendered) == ["b\n"])
        let error = #expect(throws: TemplateError.self) {
            try template.renderWithAssistantSpans(
                Self.conversation([("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]))
        }
        #expect(error?.message.contains("message 2") == true, "\(String(describing: error))")
    }

    @Test("Without messages there is nothing to find")
    func noMessages() throws {
        let template = try ChatTemplate(source: "x")
        #expect(throws: TemplateError.self) { try template.renderWithAssistantSpans([:]) }
        #expect(try template.renderWithAssistantSpans(["messages": .array([])]).spans.isEmpty)
    }
}
