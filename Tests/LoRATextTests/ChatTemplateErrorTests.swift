import LoRAFormats
import LoRAText
import OrderedCollections
import Testing

@Suite("Chat templates that are wrong or hostile")
struct ChatTemplateErrorTests {
    private func error(of source: String, _ variables: OrderedDictionary<String, JSONValue> = [:]) -> TemplateError? {
        do {
            let text = try ChatTemplate(source: source).render(variables)
            Issue.record("rendered \(text.prefix(100).debugDescription)")
            return nil
        } catch {
            return error as? TemplateError
        }
    }

    @Test(
        "An error names the line of what is wrong",
        arguments: [
            ("a\nb\n{{ 1 / 0 }}\n", 3, "division by zero"),
            ("{% if true %}\n\n  {{ missing.name }}\n{% endif %}", 3, "'missing' is undefined"),
            ("{# one\ntwo #}\n{% for x in 5 %}{% endfor %}", 3, "'int' cannot be iterated over"),
            ("x\n{{ 'content' | nosuch }}", 2, "there is no filter 'nosuch'"),
            ("{{ 'a\nb' }}\n{{ [1].append(2) }}", 3, "unsafe"),
            ("{% macro m(x) %}\n{{ x + 1 }}\n{% endmacro %}\n{{ m('a') }}", 2, "'+' is not defined"),
            ("{% if x %}\n{% endfor %}", 2, "unknown tag 'endfor', expected '{% elif %}'"),
            ("\n{{ 1 + }}", 2, "expected an expression, found '}}'"),
            ("\n\n{{ 'abc }}", 3, "the string that begins here has no end"),
            ("\n{% for x in [1] recursive %}{% endfor %}", 2, "recursive loops are not supported"),
            ("\n{% include 'other' %}", 2, "'include' is not supported"),
            ("\n{{ 9223372036854775807 + 1 }}", 2, "64 bits"),
            ("{{ {\n'a': 1,\n'b': raise_exception('no b')} }}", 3, "no b"),
            ("{{ x | urlencode }}", 1, "the filter 'urlencode' is not supported"),
        ])
    func lines(source: String, line: Int, message: String) {
        let error = error(of: source)
        #expect(error?.line == line, "\(String(describing: error))")
        #expect(error?.message.contains(message) == true, "\(String(describing: error))")
        #expect(error?.description.hasPrefix("chat template, line \(line): ") == true)
    }

    /// A hostile template, which test reports show by its name.
    struct Hostile: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let source: String

        init(_ name: String, _ source: String) {
            testDescription = name
            self.source = source
        }
    }

    @Test(
        "Hostile templates end with an error",
        arguments: [
            Hostile("brackets", "{{ " + String(repeating: "(", count: 100_000)),
            Hostile("lists", "{{ " + String(repeating: "[", count: 5000) + String(repeating: "]", count: 5000) + " }}"),
            Hostile("negations", "{{ " + String(repeating: "not ", count: 5000) + "1 }}"),
            Hostile("signs", "{{ " + String(repeating: "-", count: 5000) + "1 }}"),
            Hostile("sums", "{{ 1" + String(repeating: " + 1", count: 5000) + " }}"),
            Hostile("filters", "{{ 'a'" + String(repeating: "|upper", count: 5000) + " }}"),
            Hostile("members", "{{ a" + String(repeating: ".b", count: 5000) + " }}"),
            Hostile("conditionals", "{{ 1" + String(repeating: " if 0 else 1", count: 5000) + " }}"),
            Hostile(
                "blocks",
                String(repeating: "{% if true %}", count: 5000) + String(repeating: "{% endif %}", count: 5000)),
            Hostile("recursion", "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}"),
            Hostile("deep recursion", "{% macro m(n) %}{{ [[[[m([n])]]]] }}{% endmacro %}{{ m(0) }}"),
            Hostile("nested loops", "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
            Hostile("range", "{{ range(100001)|length }}"),
            Hostile("repetition", "{{ 'x' * 1000000000000 }}"),
            Hostile("overflowing repetition", "{{ 'xy' * 9223372036854775807 }}"),
            Hostile("output", "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}"),
            Hostile(
                "doubling",
                "{% set n = namespace(s='ab') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}"),
            Hostile(
                "doubled list",
                "{% set n = namespace(s=[1]) %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}"),
            Hostile(
                "shared list",
                "{% set n = namespace(s=[1]) %}{% for i in range(99) %}{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s }}"),
            Hostile(
                "shared list as JSON",
                "{% set n = namespace(s=[1]) %}{% for i in range(99) %}{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s|tojson }}"
            ),
            Hostile(
                "compared lists",
                "{% set n = namespace(s=[1], t=[1]) %}{% for i in range(99) %}{% set n.s = [n.s, n.s] %}{% set n.t = [n.t, n.t] %}{% endfor %}{{ n.s == n.t }}"
            ),
            Hostile(
                "nested list",
                "{% set n = namespace(s=[]) %}{% for i in range(99999) %}{% set n.s = [n.s] %}{% endfor %}"),
            Hostile("itself", "{% set n = namespace() %}{% set n.self = [n] %}{{ n }}"),
            Hostile("replacement", "{{ ('a' * 100000).replace('', 'b' * 100000) }}"),
            Hostile("join", "{{ range(99999)|join('x' * 10000) }}"),
            Hostile("indent", "{{ ('\\n' * 99999)|indent(99999, blank=true) }}"),
            Hostile("padding", "{{ 'a'.ljust(99999999999) }}"),
            Hostile("width", "{{ '%999999999d' % 1 }}"),
            Hostile("batch", "{{ [1]|batch(999999999, 0)|list }}"),
            Hostile("power", "{{ 2 ** 9999999999 }}"),
            Hostile("slice", "{{ 'abc'[::-9223372036854775807 - 1] }}{{ 1 // 0 }}"),
            Hostile(
                "generators",
                "{% set n = namespace(g=[1]) %}{% for i in range(99999) %}{% set n.g = n.g|map('string') %}{% endfor %}{{ n.g|list }}"
            ),
            Hostile(
                "shared keys",
                "{% set n = namespace(t=(1,)) %}{% for i in range(99) %}{% set n.t = (n.t, n.t) %}{% endfor %}{{ {n.t: 1} }}"
            ),
            Hostile("narrow", "{{ 'a'.ljust(-9223372036854775807 - 1) }}{{ 1 // 0 }}"),
            Hostile("division", "{{ (-9223372036854775807 - 1) // -1 }}"),
            Hostile("sign", "{{ -(-9223372036854775807 - 1) }}"),
            Hostile("length of source", String(repeating: "x", count: 5 << 20)),
            Hostile("time", "{{ strftime_now('%c' * 9999) }}"),
        ])
    func hostile(template: Hostile) {
        let error = error(of: template.source)
        #expect(error != nil)
        #expect(error?.message.contains("\n") == false)
    }

    @Test("Long chains of objects that refer to one another are freed")
    func chains() throws {
        let macros =
            "{% set n = namespace(m=none) %}{% for i in range(50000) %}{% set old = n.m %}{% macro m() %}{{ old }}{% endmacro %}{% set n.m = m %}{% endfor %}done"
        #expect(try ChatTemplate(source: macros).render([:]) == "done")
        let spaces =
            "{% set n = namespace(h=none) %}{% for i in range(50000) %}{% set n.h = namespace(next=n.h) %}{% endfor %}done"
        #expect(try ChatTemplate(source: spaces).render([:]) == "done")
    }

    @Test("Slow algorithms are not quadratic: a search of half a million characters for half as many")
    func search() throws {
        let source = "{% set a = 'a' * 500000 %}{{ a.find('a' * 250000 ~ 'b') }}{{ a.count('a' * 250000) }}"
        #expect(try ChatTemplate(source: source).render([:]) == "-12")
    }

    @Test("Cutting a template anywhere gives a text or an error, never a crash")
    func truncated() throws {
        let scalars = Array(try TemplateFixture.text("templates/qwen_tools.jinja").unicodeScalars)
        var refused = 0
        for length in stride(from: 0, to: scalars.count, by: 7) {
            var source = String.UnicodeScalarView()
            source.append(contentsOf: scalars[..<length])
            do {
                _ = try ChatTemplate(source: String(source)).render(ChatTemplate.completed(["messages": .array([])]))
            } catch is TemplateError { refused += 1 }
        }
        #expect(refused > scalars.count / 14)
    }

    @Test("What transformers adds to the variables")
    func completedVariables() throws {
        let message = JSONValue.object(["role": .string("assistant"), "reasoning": .string("r")])
        let completed = ChatTemplate.completed(["messages": .array([message])])
        #expect(completed["tools"] == .null && completed["add_generation_prompt"] == .bool(false))
        #expect(completed["messages"]?.arrayValue?.first?["reasoning_content"] == .string("r"))
        let template = try ChatTemplate(source: "{{ messages[0].thinking }}{{ tools }}{{ strftime_now('%Y-%j %H') }}")
        #expect(try template.render(completed, now: 1_000_000_000).hasPrefix("rNone2001-25"))
    }
}
