import ArgumentParser
import Foundation
import LoRAFormats
import LoRAText
import OrderedCollections

/// `lora tokenize`: text, or a conversation, as token ids.
struct TokenizeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tokenize",
        abstract: "Print token ids of a text, or of a conversation in the base's chat template.",
        discussion: """
            Example:
              lora tokenize --base models/base.bin "Hello there"
              lora tokenize --base models/base.bin --messages m.json --text-only
            """)

    @Option(help: ArgumentHelp("The base model, or any GGUF file with its tokenizer.", valueName: "file"))
    var base: String

    @Argument(help: "Text; - reads standard input byte for byte.")
    var text: String?

    @Option(help: ArgumentHelp("A conversation: an array of messages, or an object with messages.", valueName: "file"))
    var messages: String?

    @Option(help: ArgumentHelp("A chat template instead of the base's.", valueName: "file"))
    var template: String?

    @Flag(help: "Print the rendered conversation instead of its ids.")
    var textOnly = false

    @Flag(help: "Put BOS before and EOS after.")
    var special = false

    @Flag(help: "Print one JSON object.")
    var json = false

    @OptionGroup var common: CommonOptions

    func validate() throws {
        guard (text == nil) != (messages == nil) else { throw ValidationError("give either TEXT or --messages") }
        if textOnly, messages == nil { throw ValidationError("--text-only goes with --messages") }
        if template != nil, messages == nil { throw ValidationError("--template goes with --messages") }
    }

    func run() throws {
        let file = try GGUFFile(path: base)
        let tokenizer = try Tokenizer(gguf: file)
        if let messages {
            let rendered = try render(messages, file, tokenizer)
            if textOnly {
                if json { return Console.print(JSONValue.object(["text": .string(rendered)]).serialized()) }
                return Console.printPartial(rendered)
            }
            return printIDs(tokenizer.encode(rendered), tokenizer)
        }
        let bytes = text == "-" ? try readStandardInput() : Array((text ?? "").utf8)
        printIDs(bytes.withUnsafeBytes { tokenizer.encode(bytes: $0, parsingSpecial: true) }, tokenizer)
    }

    private func printIDs(_ ids: [Int32], _ tokenizer: Tokenizer) {
        var ids = ids
        if special {
            ids = (tokenizer.bosID.map { [$0] } ?? []) + ids + (tokenizer.eosID.map { [$0] } ?? [])
        }
        let array = JSONValue.array(ids.map { .integer(Int64($0)) })
        Console.print((json ? JSONValue.object(["ids": array]) : array).serialized())
    }

    private func render(_ path: String, _ file: GGUFFile, _ tokenizer: Tokenizer) throws -> String {
        let format = try chatFormat(file, tokenizer)
        let content = try MappedFile.contents(path: path)
        let value: JSONValue
        do { value = try content.withUnsafeBytes { try JSONValue(parsing: $0) } } catch let error as FormatError {
            throw FormatError(error.description, file: path)
        }
        if let messages = value.arrayValue { return try format.render(messages: messages, addGenerationPrompt: true) }
        guard var members = value.objectValue, let messages = members.removeValue(forKey: "messages")?.arrayValue else {
            throw FormatError("expected an array of messages, or an object with messages", file: path)
        }
        let tools = members.removeValue(forKey: "tools")
        let choice = members.removeValue(forKey: "add_generation_prompt") ?? .bool(true)
        guard let addsPrompt = choice.boolValue else {
            throw FormatError("add_generation_prompt must be true or false, found \(choice.kind)", file: path)
        }
        return try format.template.render(
            format.variables(messages: messages, tools: tools, addGenerationPrompt: addsPrompt, more: members))
    }

    private func chatFormat(_ file: GGUFFile, _ tokenizer: Tokenizer) throws -> ChatFormat {
        if let template {
            guard let text = String(validating: try MappedFile.contents(path: template), as: UTF8.self) else {
                throw FormatError("is not UTF-8; convert it first", file: template)
            }
            do {
                return ChatFormat(template: try ChatTemplate(source: text), tokenizer: tokenizer)
            } catch let error as TemplateError { throw FormatError(error.description, file: template) }
        }
        guard let format = try ChatFormat(gguf: file, tokenizer: tokenizer) else {
            throw FormatError("the base has no chat template; give one with --template", file: base)
        }
        return format
    }
}
