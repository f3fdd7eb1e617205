import LoRAFormats
import OrderedCollections

/// Reads the `messages` of a chat as templates take them: a role and a text each.
enum ChatMessages {
    private static let roles: Set<String> = ["system", "developer", "user", "assistant", "tool"]

    /// - Throws: 400 that names the message at fault.
    static func read(_ fields: RequestFields, limit: Int) throws(APIError) -> [JSONValue] {
        guard let elements = try fields.array("messages", limit: limit), !elements.isEmpty else {
            throw .badRequest(
                "'messages' is missing or empty", param: "messages", code: "missing_required_parameter")
        }
        var messages: [JSONValue] = []
        for (index, element) in elements.enumerated() {
            messages.append(try message(element, path: "messages[\(index)]"))
        }
        return messages
    }

    private static func message(_ value: JSONValue, path: String) throws(APIError) -> JSONValue {
        let fields = try RequestFields(value, path: path, rules: FieldTables.message)
        let role = try fields.required("role")
        guard roles.contains(role) else {
            throw .badRequest(
                "'\(path).role' is \(FormatError.quoted(role)); roles are \(roles.sorted().joined(separator: ", "))",
                param: "\(path).role")
        }
        // Templates know the older name.
        var message: OrderedDictionary<String, JSONValue> = [
            "role": .string(role == "developer" ? "system" : role),
            "content": .string(try content(fields, path: "\(path).content")),
        ]
        for name in ["name", "tool_call_id"] {
            if let text = try fields.string(name) { message[name] = .string(text) }
        }
        return .object(message)
    }

    private static func content(_ fields: RequestFields, path: String) throws(APIError) -> String {
        switch fields["content"] {
        case .string(let text)?: return text
        case .array(let parts)?:
            var text = ""
            for (index, part) in parts.enumerated() { text += try self.text(of: part, path: "\(path)[\(index)]") }
            return text
        case nil: throw .badRequest("'\(path)' is missing", param: path, code: "missing_required_parameter")
        case let value?:
            throw .badRequest(
                "'\(path)' must be a string or an array of text parts, not \(value.kind)", param: path,
                code: "invalid_type")
        }
    }

    private static func text(of part: JSONValue, path: String) throws(APIError) -> String {
        if let type = part["type"]?.stringValue, type != "text" {
            throw .badRequest(
                "'\(path)' is of type \(FormatError.quoted(type)); this server takes text only", param: path,
                code: "unsupported_parameter")
        }
        let fields = try RequestFields(part, path: path, rules: FieldTables.contentPart)
        _ = try fields.required("type")
        guard let text = try fields.string("text") else {
            throw .badRequest("'\(path).text' is missing", param: "\(path).text")
        }
        return text
    }
}
