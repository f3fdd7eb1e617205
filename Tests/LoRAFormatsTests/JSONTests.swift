import LoRAFormats
import OrderedCollections
import Testing

@Suite("JSON")
struct JSONTests {
    @Test(
        "values",
        arguments: [
            ("null", JSONValue.null), (" true ", .bool(true)), ("false", .bool(false)), ("0", .integer(0)),
            ("-0", .integer(0)), ("9223372036854775807", .integer(.max)), ("-9223372036854775808", .integer(.min)),
            ("9223372036854775808", .number(9_223_372_036_854_775_808)), ("1.0", .number(1)), ("1e2", .number(100)),
            ("-2.5E-1", .number(-0.25)), ("5e-324", .number(.leastNonzeroMagnitude)), ("\"\"", .string("")),
            (#""\"\\\/\b\f\n\r\t""#, .string("\"\\/\u{8}\u{c}\n\r\t")), (#""é\u00e9\ud83d\ude00😀""#, .string("éé😀😀")),
            ("[]", .array([])), ("[1,[2]]", .array([.integer(1), .array([.integer(2)])])), ("{}", .object([:])),
            ("{\"b\":1,\"a\":\t{}}", .object(["b": .integer(1), "a": .object([:])])),
            ("\"\\u0000\"", .string("\0")),
        ])
    func values(text: String, value: JSONValue) throws {
        #expect(try JSONValue(parsing: text) == value)
        #expect(try JSONValue(parsing: value.serialized()) == value)
        #expect(try JSONValue(parsing: value.serialized(pretty: true)) == value)
    }

    @Test(
        "refused texts name the byte",
        arguments: [
            ("", "byte 0"), ("  ", "byte 2"), ("tru", "byte 3"), ("nulL", "byte 3"), ("01", "byte 0"), ("-", "byte 1"),
            ("1.", "byte 2"), ("1e", "byte 2"), ("1e+", "byte 3"), ("+1", "byte 0"), (".5", "byte 0"),
            ("1 2", "byte 2"),
            ("[1,]", "byte 3"), ("[1 2]", "byte 3"), ("[1", "byte 2"), ("{\"a\"}", "byte 4"), ("{\"a\":1,}", "byte 7"),
            ("{a:1}", "byte 1"), ("{\"a\":1 \"b\"", "byte 7"), ("\"a", "byte 0"), ("\"\t\"", "byte 1"),
            ("\"\\x\"", "byte 2"),
            ("\"\\u12g4\"", "byte 5"), ("\"\\ud800\"", "byte 1"), ("\"\\udc00\"", "byte 1"),
            ("\"\\ud800\\u0041\"", "byte 1"),
            ("\"\\ud800\\ud800\"", "byte 1"), ("{\"a\":1,\"a\":2}", "byte 7"), ("1e999", "byte 0"), ("NaN", "byte 0"),
            ("\u{FEFF}1", "byte order mark"), ("'a'", "byte 0"), ("[1]]", "byte 3"),
        ])
    func refused(text: String, place: String) {
        #expect(Support.message { _ = try JSONValue(parsing: text) }.contains(place))
    }

    @Test(
        "invalid UTF-8 is refused at its byte",
        arguments: [
            [0x22, 0xFF, 0x22], [0x22, 0xC0, 0x80, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22], [0x22, 0xE2, 0x82, 0x22],
        ] as [[UInt8]])
    func invalidUTF8(bytes: [UInt8]) {
        #expect(Support.message { _ = try JSONValue(parsing: bytes) }.contains("invalid UTF-8 at byte 1"))
    }

    @Test("depth is capped")
    func depth() throws {
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        #expect(throws: Never.self) { try JSONValue(parsing: nested(256)) }
        #expect(Support.message { _ = try JSONValue(parsing: nested(257)) }.contains("256 levels"))
        #expect(Support.message { _ = try JSONValue(parsing: nested(1_000_000)) }.contains("256 levels"))
    }

    @Test("serialisation is exact")
    func serialisation() throws {
        let value = JSONValue.object([
            "b": .array([.integer(1), .number(0.1), .number(1e100), .number(-0.0)]),
            "a": .string("é\"\\\n\u{1}\u{1f}/"),
            "é": .null, "empty": .object([:]), "none": .array([]), "inf": .number(.infinity),
        ])
        #expect(
            value.serialized()
                == #"{"b":[1,0.1,1e+100,-0.0],"a":"é\"\\\n\u0001\u001f/","é":null,"empty":{},"none":[],"inf":null}"#)
        #expect(
            value.serialized(sortedKeys: true)
                == #"{"a":"é\"\\\n\u0001\u001f/","b":[1,0.1,1e+100,-0.0],"empty":{},"inf":null,"none":[],"é":null}"#)
        #expect(
            JSONValue.object(["a": .array([.integer(1), .object([:])]), "b": .bool(true)]).serialized(pretty: true)
                == "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": true\n}")
    }

    @Test("doubles survive a round trip bit for bit")
    func doubles() throws {
        var generator = SeededGenerator(seed: 1)
        for _ in 0..<20_000 {
            let value = Double(bitPattern: generator.next())
            guard value.isFinite else { continue }
            let read = try JSONValue(parsing: JSONValue.number(value).serialized()).doubleValue
            #expect(read?.bitPattern == value.bitPattern)
        }
    }

    @Test("every truncation is refused; no changed byte crashes")
    func damage() {
        let text = Array(#"{"a":[1,-2.5e3,"é\u00e9\ud83d\ude00\n"],"b":{"c":null,"d":[true,false,[]]},"e":"😀"}"#.utf8)
        Damage.truncate(text) { try JSONValue(parsing: $0) }
        Damage.change(text) { try JSONValue(parsing: try JSONValue(parsing: $0).serialized()) }
    }
}
