#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif
public import LoRAFormats
public import OrderedCollections

/// A Jinja chat template, as found in Hugging Face models and GGUF files.
///
/// Renders what transformers renders: Jinja's immutable sandbox with `trim_blocks` and `lstrip_blocks`, loop controls,
/// `generation` blocks, `raise_exception`, `strftime_now` and a `tojson` that leaves HTML and what is not ASCII alone.
/// Whatever this interpreter cannot do, or a template must not do, is a `TemplateError`.
public struct ChatTemplate: Sendable {
    private let statements: [Statement]
    /// Whether the template marks what an assistant writes with `generation` blocks.
    public let marksGeneration: Bool

    /// - Throws: `TemplateError` with the line.
    public init(source: String) throws {
        (statements, marksGeneration) = try Parser.parse(source)
    }

    /// Renders with `messages`, `tools`, `add_generation_prompt`, `bos_token`, `eos_token` and anything else a
    /// template reads among `variables`; what is absent is undefined.
    /// - Throws: `TemplateError` with the line: `raise_exception`, or something this interpreter cannot do.
    public func render(_ variables: OrderedDictionary<String, JSONValue>) throws -> String {
        try run(variables, now: nil).text
    }

    /// Renders with `strftime_now` giving the time `now`, in seconds since 1970.
    /// - Throws: `TemplateError` with the line.
    public func render(_ variables: OrderedDictionary<String, JSONValue>, now: Int) throws -> String {
        try run(variables, now: now).text
    }

    /// The variables as transformers completes them before it renders: `tools` and `documents` are none and
    /// `add_generation_prompt` is false unless given, and reasoning is found under every name that templates read.
    public static func completed(
        _ variables: OrderedDictionary<String, JSONValue>
    ) -> OrderedDictionary<String, JSONValue> {
        var completed: OrderedDictionary<String, JSONValue> = [
            "tools": .null, "documents": .null, "add_generation_prompt": .bool(false),
        ]
        completed.merge(variables) { $1 }
        if case .array(let messages)? = variables["messages"] {
            completed["messages"] = .array(messages.map(withReasoningAliases))
        }
        return completed
    }

    private static func withReasoningAliases(_ message: JSONValue) -> JSONValue {
        guard case .object(let members) = message else { return message }
        for name in ["reasoning_content", "thinking", "reasoning"] {
            guard let reasoning = members[name], reasoning != .null else { continue }
            var aliased: OrderedDictionary<String, JSONValue> = ["thinking": reasoning]
            aliased.merge(members) { $1 }
            aliased["reasoning_content"] = reasoning
            return .object(aliased)
        }
        return message
    }

    /// The rendered text, the ranges of its UTF-8 bytes that `generation` blocks wrote, and the line of such a block
    /// whose place in the text is not known.
    func run(
        _ variables: OrderedDictionary<String, JSONValue>, now: Int?
    ) throws(TemplateError) -> (text: String, generation: [Range<Int>], unplacedLine: Int?) {
        let interpreter = Interpreter(
            variables: variables.mapValues { Interpreter.JSONVariable($0) }, now: now ?? Int(time(nil)))
        let scalars = try interpreter.run(statements)
        let ranges = interpreter.generationRanges.map { range in
            let start = ChatTemplate.byteCount(scalars[..<range.lowerBound])
            return start..<(start + ChatTemplate.byteCount(scalars[range]))
        }
        return (Text(scalars).string, ranges, interpreter.unplacedGenerationLine)
    }

    private static func byteCount(_ scalars: ArraySlice<Unicode.Scalar>) -> Int {
        scalars.reduce(0) { $0 + UTF8.width($1) }
    }
}

/// What is wrong with a template, and in which line of it.
public struct TemplateError: Error, CustomStringConvertible, Sendable, Equatable {
    public let line: Int
    public let message: String

    public init(line: Int, message: String) {
        self.line = line
        self.message = message
    }

    public var description: String { "chat template, line \(line): \(message)" }
}
