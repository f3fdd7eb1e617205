import LoRAFormats
import OrderedCollections
import Testing

@Suite("YAML")
struct YAMLTests {
    @Test(
        "What is not in quotes may be a number, true, false or nothing; everything else is a text",
        arguments: [
            ("", .null), ("# nothing", .null), ("---\n", .null), ("~", .null), ("NULL", .null),
            ("nULL", .string("nULL")),
            ("true", .bool(true)), ("yes", .bool(true)), ("Off", .bool(false)), ("y", .string("y")),
            ("\"true\"", .string("true")), ("'~'", .string("~")), ("|\n  5", .string("5\n")), ("1", .integer(1)),
            ("-12", .integer(-12)), ("+3", .integer(3)), ("0", .integer(0)), ("1_000", .integer(1000)),
            ("010", .string("010")), ("0x10", .string("0x10")), ("_1", .string("_1")), ("1e-3", .number(1e-3)),
            ("0.5", .number(0.5)), (".5", .number(0.5)), ("1.", .number(1)), ("-1.5E+2", .number(-150)),
            ("1e999", .string("1e999")), ("9223372036854775808", .number(9_223_372_036_854_775_808)),
            ("nan", .string("nan")), (".inf", .string(".inf")), ("1.2.3", .string("1.2.3")), ("1-2", .string("1-2")),
            ("a b # comment", .string("a b")), ("R & D", .string("R & D")), ("a*b", .string("a*b")),
            ("'*&'", .string("*&")), ("é😀", .string("é😀")),
            (
                "[1, [a], {b: c}]",
                .array([
                    .integer(1), .array([.string("a")]), .object(["b": .string("c")]),
                ])
            ),
            ("b: 1\r\na: {}\n1: []", .object(["b": .integer(1), "a": .object([:]), "1": .array([])])),
        ] as [(String, JSONValue)])
    func values(text: String, expected: JSONValue) throws {
        #expect(try YAMLNode(parsing: text).json == expected)
    }

    @Test("Everything knows where it stands, and how it was written")
    func places() throws {
        let root = try YAMLNode(parsing: "# first\n  rate: 1e-3 # slow\n  list:\n    - a\n    -\n    - \"7\"\n")
        let members = try #require(root.mapping)
        #expect(root.line == 2 && root.column == 3 && root.list == nil && root.text == nil && !root.isNothing)
        #expect(members.keys == ["rate", "list"] && members["rate"]?.line == 2 && members["list"]?.line == 3)
        #expect(members["rate"]?.value.text == "1e-3" && members["rate"]?.value.column == 9)
        let list = try #require(members["list"]?.value.list)
        #expect(list.map(\.line) == [4, 5, 6] && list.map(\.text) == ["a", nil, "7"] && list[1].isNothing)
    }

    @Test(
        "What is not one plain document is refused with its line and what to do",
        arguments: [
            ("a: 1\nb: 2\na: 3", "'a' is there twice"), ("a: 1\n\"a\": 2", "'a' is there twice"),
            ("1: a\n'1': b", "'1' is there twice"), ("a\n---\nb", "not YAML"), ("a: [", "line "),
            ("a:\n\tb: 1", "line 2: not YAML"), ("\u{1}", "not YAML"), ("- 1\n- *a", "line 2: found undefined alias"),
            ("[*]", "line 1: not YAML"), ("[*]", "in quotes"), ("- 1\n- &a b", "line 2: YAML's anchors"),
            ("a: &a 1\nb: *a", "line 1: YAML's anchors"), ("? [a]\n: 1", "line 1: a key must be a text"),
            ("{a: 1}: 2", "line 1: a key must be a text"), ("<<: &x {a: 1}", "line 1: YAML's anchors"),
            (String(repeating: "[", count: 66) + String(repeating: "]", count: 66), "64 levels"),
            (String(repeating: "[", count: 2000), "not YAML"), (String(repeating: "- ", count: 500), "64 levels"),
        ])
    func refused(text: String, expected: String) throws {
        let error = try #require(throws: FormatError.self) { try YAMLNode(parsing: text) }
        #expect(error.message.contains(expected) && !error.message.contains("\n"), "\(error.message)")
    }

    @Test("A text that stands for more than fits in memory is refused before anything is made of it")
    func bombs() {
        var text = "- &a0 [x, x]\n"
        for level in 1...60 { text += "- &a\(level) [*a\(level - 1), *a\(level - 1)]\n" }
        #expect(throws: FormatError.self) { try YAMLNode(parsing: text) }
        // Keys are compared as soon as their mapping is whole.
        #expect(throws: FormatError.self) { try YAMLNode(parsing: text + "- ? *a60\n  : 1\n- ? *a60\n  : 2\n") }
    }

    @Test("Damaged texts are read or refused, whatever they hold")
    func damage() throws {
        let text = "- id: \"a\"\n  list: [x*, 'y', 2]\n  on: ~ # *\n- {b: a & b, c: -1}\n- |\n  d\n"
        #expect(try YAMLNode(parsing: text).list?.count == 3)
        Damage.change(Array(text.utf8)) { bytes in _ = try YAMLNode(parsing: String(decoding: bytes, as: UTF8.self)) }
    }
}
