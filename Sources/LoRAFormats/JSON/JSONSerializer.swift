import OrderedCollections

/// Writes JSON values as UTF-8; equal values give equal bytes.
struct JSONSerializer {
    let pretty: Bool
    let sortedKeys: Bool
    private(set) var output: [UInt8] = []

    init(pretty: Bool, sortedKeys: Bool) {
        self.pretty = pretty
        self.sortedKeys = sortedKeys
    }

    mutating func write(_ value: JSONValue, depth: Int) {
        switch value {
        case .null: append("null")
        case .bool(let value): append(value ? "true" : "false")
        case .integer(let value): append(String(value))
        // Swift prints the shortest decimal that reads back as the same double, in JSON's grammar.
        case .number(let value): append(value.isFinite ? value.description : "null")
        case .string(let value): writeString(value)
        case .array(let elements):
            writeContainer("[", "]", count: elements.count, depth: depth) { serializer, index in
                serializer.write(elements[index], depth: depth + 1)
            }
        case .object(let members):
            // Unicode code point order, which is the order of UTF-8 bytes.
            let order =
                sortedKeys
                ? members.keys.indices.sorted { members.keys[$0].utf8.lexicographicallyPrecedes(members.keys[$1].utf8) }
                : Array(members.keys.indices)
            writeContainer("{", "}", count: order.count, depth: depth) { serializer, index in
                let (key, value) = members.elements[order[index]]
                serializer.writeString(key)
                serializer.append(serializer.pretty ? ": " : ":")
                serializer.write(value, depth: depth + 1)
            }
        }
    }

    private mutating func append(_ text: String) { output.append(contentsOf: text.utf8) }

    private mutating func writeContainer(
        _ open: Character, _ close: Character, count: Int, depth: Int, element: (inout JSONSerializer, Int) -> Void
    ) {
        append(String(open))
        for index in 0..<count {
            if index > 0 { append(",") }
            breakLine(depth: depth + 1)
            element(&self, index)
        }
        if count > 0 { breakLine(depth: depth) }
        append(String(close))
    }

    private mutating func breakLine(depth: Int) {
        guard pretty else { return }
        output.append(0x0A)
        output.append(contentsOf: repeatElement(0x20, count: 2 * depth))
    }

    private mutating func writeString(_ text: String) {
        output.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""): append("\\\"")
            case UInt8(ascii: "\\"): append("\\\\")
            case 0x08: append("\\b")
            case 0x09: append("\\t")
            case 0x0A: append("\\n")
            case 0x0C: append("\\f")
            case 0x0D: append("\\r")
            case 0..<0x20:
                append(byte < 0x10 ? "\\u000" : "\\u00")
                append(String(byte, radix: 16))
            default: output.append(byte)
            }
        }
        output.append(UInt8(ascii: "\""))
    }
}
