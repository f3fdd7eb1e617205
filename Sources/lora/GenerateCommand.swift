import ArgumentParser
import Foundation
import LoRAFormats
import LoRAModel
import LoRAText
import OrderedCollections

/// `lora generate`: a prompt in, an answer out, streamed.
struct GenerateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "generate",
        abstract: "Answer a prompt with the base and any adapters.",
        discussion: """
            Example:
              lora generate --base models/base.bin --adapter adapters/smart-home.lora --prompt "dim the kitchen to 30"
            """)

    @Option(help: ArgumentHelp("The base model, a GGUF file.", valueName: "file"))
    var base: String

    @Option(help: ArgumentHelp("An adapter and its weight; several are summed.", valueName: "file[:weight]"))
    var adapter: [WeightedAdapter] = []

    @Option(help: ArgumentHelp("What to answer; - reads standard input.", valueName: "text"))
    var prompt: String

    @Option(help: ArgumentHelp("A system message.", valueName: "text"))
    var system: String?

    @Flag(help: "Continue the prompt as it is, without the chat template.")
    var raw = false

    @Option(help: "Tokens to write at most.")
    var maxTokens = 128

    @Option(help: "0 takes the most likely token each time.")
    var temperature: Float = 0

    @Option(help: "Only the k most likely tokens; 0 for all.")
    var topK = 0

    @Option(help: "Only the most likely tokens that together have this probability.")
    var topP: Float = 1

    @Option(help: "Only tokens at least so likely, relative to the most likely one.")
    var minP: Float = 0

    @Option(help: "Seed of the sampling.")
    var seed: UInt64 = 0

    @Option(help: "Operands of matrix products: auto, f32 or bf16.")
    var compute = ComputeOption.auto

    @Flag(help: "Print one JSON object at the end instead of the text as it comes.")
    var json = false

    @OptionGroup var otherBase: OtherBaseOptions
    @OptionGroup var common: CommonOptions

    func validate() throws {
        guard (1...1 << 28).contains(maxTokens) else {
            throw ValidationError("--max-tokens must be from 1 to \(1 << 28)")
        }
        if raw, system != nil { throw ValidationError("--system goes into the chat template, which --raw leaves out") }
        guard temperature.isFinite, temperature >= 0 else {
            throw ValidationError("--temperature must not be negative")
        }
        guard topK >= 0 else { throw ValidationError("--top-k must not be negative") }
        guard topP > 0, topP <= 1 else { throw ValidationError("--top-p must be above 0 and at most 1") }
        guard (0...1).contains(minP) else { throw ValidationError("--min-p must be from 0 to 1") }
    }

    func run() throws {
        let model = try BaseModel(path: base)
        let tokenizer = try Tokenizer(gguf: model.file)
        let ids = try promptIDs(model, tokenizer)
        let context = model.configuration.contextLength
        guard !ids.isEmpty else { throw FormatError("the prompt is empty; give --prompt some text") }
        guard ids.count < context else {
            throw FormatError("the prompt has \(ids.count) tokens, the base's context is \(context); shorten it")
        }
        let compute = try compute.resolve()
        let pool = common.makePool()
        defer { pool.shutdown() }
        let parts = try adapter.map { (try otherBase.loadAdapter($0.path, base: model), $0.weight) }
        let parameters = parts.isEmpty ? nil : AdapterParameters.combining(parts, base: model, pool: pool)
        let generator = try Generator(
            model: model, pool: pool, compute: compute, slots: 1, positions: min(context, ids.count + maxTokens))
        try answer(
            generator, tokenizer,
            .init(
                prompt: ids, adapter: parameters, endIDs: tokenizer.endIDs,
                maximumTokens: min(maxTokens, context - ids.count),
                sampling: .init(temperature: temperature, topK: topK, topP: topP, minP: minP, seed: seed)))
    }

    private func promptIDs(_ model: BaseModel, _ tokenizer: Tokenizer) throws -> [Int32] {
        let bytes = prompt == "-" ? try readStandardInput() : Array(prompt.utf8)
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw FormatError("the prompt is not UTF-8; convert it first", file: "standard input")
        }
        guard !raw, let format = try ChatFormat(gguf: model.file, tokenizer: tokenizer) else {
            if system != nil { throw FormatError("no chat template, so --system has no place", file: base) }
            let ids = tokenizer.encode(text)
            guard tokenizer.addsBOS, let bos = tokenizer.bosID, ids.first != bos else { return ids }
            return [bos] + ids
        }
        let message = { (role: String, content: String) -> JSONValue in
            .object(["role": .string(role), "content": .string(content)])
        }
        let messages = (system.map { [message("system", $0)] } ?? []) + [message("user", text)]
        return tokenizer.encode(try format.render(messages: messages, addGenerationPrompt: true))
    }

    private func answer(_ generator: Generator, _ tokenizer: Tokenizer, _ request: Generator.Request) throws {
        let interruption = Interruption()
        var decoder = StreamingDecoder(tokenizer: tokenizer)
        var text = ""
        let emit = { (part: String) in
            text += part
            if !json { Console.printPartial(part) }
        }
        let start = ContinuousClock.now
        var first: ContinuousClock.Instant?
        let tokens = generator.run([request]) { _, token in
            if first == nil { first = .now }
            emit(decoder.append(token))
            return !interruption.isRequested
        }[0]
        emit(decoder.finish())
        let end = ContinuousClock.now
        let firstSeconds = ((first ?? end) - start) / .seconds(1)
        let rate = Double(tokens.count - 1) / max((end - (first ?? start)) / .seconds(1), 1e-9)
        let isComplete = tokens.count < request.maximumTokens
        let isInterrupted = interruption.isRequested
        if json {
            Console.print(
                JSONValue.object([
                    "text": .string(text),
                    "finish_reason": .string(isInterrupted ? "interrupted" : isComplete ? "stop" : "length"),
                    "prompt_tokens": .integer(Int64(request.prompt.count)),
                    "completion_tokens": .integer(Int64(tokens.count)),
                    "seconds_to_first_token": .number(firstSeconds),
                    "tokens_per_second": tokens.count > 1 ? .number(rate) : .null,
                ]).serialized())
        } else {
            Console.print("")
            if !common.quiet {
                Console.note(
                    "\(request.prompt.count) tokens in, \(tokens.count) out"
                        + String(format: ", first after %.2f s", firstSeconds)
                        + (tokens.count > 1 ? String(format: ", then %.0f tokens/s", rate) : ""))
            }
        }
        if isInterrupted { throw ExitCode(130) }
    }
}
