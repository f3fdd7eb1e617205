public import LoRAFormats
public import OrderedCollections

/// A Jinja chat template, as found in Hugging Face models and GGUF files.
public struct ChatTemplate: Sendable {
    /// - Throws: `TemplateError` with the line.
    public init(source: String) throws { fatalError("stub") }

    /// Renders with `messages`, `tools`, `add_generation_prompt`, `bos_token`, `eos_token` and anything else a
    /// template reads among `variables`; what is absent is undefined.
    /// - Throws: `TemplateError` with the line: `raise_exception`, or something this interpreter cannot do.
    public func render(_ variables: OrderedDictionary<String, JSONValue>) throws -> String { fatalError("stub") }
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
