import LoRAFormats
import OrderedCollections

/// What a route makes of a field of the request's object.
enum FieldRule: Sendable {
    /// The route reads it.
    case supported
    /// Any value is taken: it changes no answer.
    case ignored
    /// Taken at these values only, at which it changes no answer. `null` always is.
    case neutral([JSONValue])
    /// Known from the OpenAI interface, and not offered.
    case unsupported
}

/// The members of a JSON object in a request, checked against a route's table and read by type.
struct RequestFields {
    private let members: OrderedDictionary<String, JSONValue>
    /// Where the object stands in the request; empty for the request itself.
    private let path: String

    /// - Throws: 400 that names the first field that is unknown or not supported.
    init(_ value: JSONValue, path: String = "", rules: [String: FieldRule]) throws(APIError) {
        guard let members = value.objectValue else {
            throw .badRequest(
                "\(path.isEmpty ? "the body" : "'\(path)'") must be an object, not \(value.kind)",
                param: path.isEmpty ? nil : path)
        }
        self.path = path
        self.members = members.filter { !$0.value.isNull }
        for (name, value) in members { try check(name, value, rules[name]) }
    }

    private func check(_ name: String, _ value: JSONValue, _ rule: FieldRule?) throws(APIError) {
        let field = place(name)
        switch rule {
        case nil:
            throw .badRequest(
                "unknown field \(FormatError.quoted(field))", param: FormatError.shortened(field),
                code: "unknown_parameter")
        case .unsupported? where !value.isNull:
            throw .badRequest("'\(field)' is not supported; leave it out", param: field, code: "unsupported_parameter")
        case .neutral(let values)? where !value.isNull && !values.contains(where: { Self.areEqual($0, value) }):
            let allowed = values.map { $0.serialized() }.joined(separator: " or ")
            throw .badRequest(
                "'\(field)' is not supported; leave it out\(allowed.isEmpty ? "" : " or set it to \(allowed)")",
                param: field, code: "unsupported_parameter")
        default: return
        }
    }

    /// 1 and 1.0 are the same value to every client.
    private static func areEqual(_ one: JSONValue, _ other: JSONValue) -> Bool {
        if let number = one.doubleValue { return number == other.doubleValue }
        return one == other
    }

    private func place(_ name: String) -> String { path.isEmpty ? name : "\(path).\(name)" }

    private func mistyped(_ name: String, _ expected: String, _ value: JSONValue) -> APIError {
        .badRequest("'\(place(name))' must be \(expected), not \(value.kind)", param: place(name), code: "invalid_type")
    }

    // MARK: Values

    /// The value as it is; nil where there is none or `null`.
    subscript(name: String) -> JSONValue? { members[name] }

    func string(_ name: String) throws(APIError) -> String? {
        guard let value = members[name] else { return nil }
        guard let text = value.stringValue else { throw mistyped(name, "a string", value) }
        return text
    }

    func required(_ name: String) throws(APIError) -> String {
        guard let text = try string(name), !text.isEmpty else {
            throw .badRequest("'\(place(name))' is missing", param: place(name), code: "missing_required_parameter")
        }
        return text
    }

    func flag(_ name: String) throws(APIError) -> Bool {
        guard let value = members[name] else { return false }
        guard let flag = value.boolValue else { throw mistyped(name, "a boolean", value) }
        return flag
    }

    func integer(_ name: String, in range: ClosedRange<Int>) throws(APIError) -> Int? {
        guard let value = members[name] else { return nil }
        guard let number = value.intValue else { throw mistyped(name, "a whole number", value) }
        guard range.contains(number) else { throw outOfRange(name, "from \(range.lowerBound) to \(range.upperBound)") }
        return number
    }

    func float(_ name: String, in range: ClosedRange<Float>, default fallback: Float) throws(APIError) -> Float {
        guard let value = members[name] else { return fallback }
        guard let number = value.doubleValue else { throw mistyped(name, "a number", value) }
        guard range.contains(Float(number)) else {
            throw outOfRange(name, "from \(range.lowerBound) to \(range.upperBound)")
        }
        return Float(number)
    }

    func array(_ name: String, limit: Int) throws(APIError) -> [JSONValue]? {
        guard let value = members[name] else { return nil }
        guard let elements = value.arrayValue else { throw mistyped(name, "an array", value) }
        guard elements.count <= limit else {
            throw .badRequest(
                "'\(place(name))' has \(elements.count) elements; at most \(limit) are taken", param: place(name),
                code: "array_above_max_length")
        }
        return elements
    }

    /// The object under `name`, with rules of its own.
    func object(_ name: String, rules: [String: FieldRule]) throws(APIError) -> RequestFields? {
        guard let value = members[name] else { return nil }
        return try RequestFields(value, path: place(name), rules: rules)
    }

    func outOfRange(_ name: String, _ expected: String) -> APIError {
        .badRequest("'\(place(name))' must be \(expected)", param: place(name), code: "value_out_of_range")
    }
}

extension FormatError {
    /// `quoted` without the quotes.
    static func shortened(_ name: String) -> String { String(quoted(name).dropFirst().dropLast()) }
}
