import LoRAFormats
import LoRAModel
import OrderedCollections

/// What a request to one of the completion routes asks for, checked as far as the request alone allows.
struct CompletionRequest: Sendable {
    /// What is to be continued.
    enum Input: Sendable {
        case messages([JSONValue])
        case prompts([Prompt])
    }

    /// One prompt of `/v1/completions`.
    enum Prompt: Sendable, Equatable {
        case text(String)
        case tokens([Int32])
    }

    var model: String
    var input: Input
    /// Answers to each prompt.
    var choices: Int
    /// nil when the request leaves it to the server.
    var maximumTokens: Int?
    /// What fits the context, up to this, where the request does not say.
    var defaultTokens: Int
    /// The seed is set for each answer.
    var sampling: SamplingOptions
    var seed: UInt64?
    var stops: [String]
    /// Log-probabilities, each with so many of the most likely tokens.
    var alternatives: Int?
    /// Whether prompts are part of the answers.
    var echoes: Bool
    var streams: Bool
    var includesUsage: Bool

    var isChat: Bool { if case .messages = input { true } else { false } }
}

extension CompletionRequest {
    /// Largest number of alternatives, as the OpenAI interface has it.
    static let mostAlternatives = 20

    /// - Throws: 400 that names the field at fault.
    init(chat body: JSONValue, limits: HTTPLimits, vocabulary: Int) throws(APIError) {
        let fields = try RequestFields(body, rules: FieldTables.chat)
        try self.init(fields, limits: limits, vocabulary: vocabulary, least: 1)
        input = .messages(try ChatMessages.read(fields, limit: limits.messages))
        let top = try fields.integer("top_logprobs", in: 0...Self.mostAlternatives)
        if try fields.flag("logprobs") {
            alternatives = top ?? 0
        } else if top != nil {
            throw .badRequest("'top_logprobs' needs 'logprobs': true", param: "top_logprobs")
        }
        let most = try fields.integer("max_completion_tokens", in: 1...Int(Int32.max))
        if let most, let other = maximumTokens, most != other {
            throw .badRequest(
                "'max_tokens' and 'max_completion_tokens' differ; send one of them", param: "max_completion_tokens")
        }
        maximumTokens = maximumTokens ?? most
    }

    /// - Throws: 400 that names the field at fault.
    init(text body: JSONValue, limits: HTTPLimits, vocabulary: Int) throws(APIError) {
        let fields = try RequestFields(body, rules: FieldTables.completions)
        let echoes = try fields.flag("echo")
        try self.init(fields, limits: limits, vocabulary: vocabulary, least: echoes ? 0 : 1)
        self.echoes = echoes
        // The interface's own default, which clients count on.
        defaultTokens = 16
        alternatives = try fields.integer("logprobs", in: 0...Self.mostAlternatives)
        let prompts = try PromptReader(limit: limits.prompts, vocabulary: vocabulary).read(fields["prompt"])
        guard prompts.count * choices <= limits.answers else {
            throw .badRequest(
                "\(prompts.count) prompts with \(choices) answers each are more than \(limits.answers) answers",
                param: "n")
        }
        input = .prompts(prompts)
    }

    /// What both routes have; `least` is the smallest `max_tokens`.
    private init(_ fields: RequestFields, limits: HTTPLimits, vocabulary: Int, least: Int) throws(APIError) {
        model = try fields.required("model")
        input = .prompts([])
        choices = try fields.integer("n", in: 1...limits.choices) ?? 1
        maximumTokens = try fields.integer("max_tokens", in: least...Int(Int32.max))
        defaultTokens = limits.defaultTokens
        sampling = try Self.sampling(fields, vocabulary: vocabulary)
        seed = try Self.seed(fields)
        stops = try Self.stops(fields, limits: limits)
        alternatives = nil
        echoes = false
        streams = try fields.flag("stream")
        let options = try fields.object("stream_options", rules: FieldTables.streamOptions)
        if options != nil, !streams {
            throw .badRequest("'stream_options' needs 'stream': true", param: "stream_options")
        }
        includesUsage = try options?.flag("include_usage") ?? false
    }

    private static func sampling(_ fields: RequestFields, vocabulary: Int) throws(APIError) -> SamplingOptions {
        let topP = try fields.float("top_p", in: 0...1, default: 1)
        guard topP > 0 else { throw fields.outOfRange("top_p", "above 0 and at most 1") }
        return SamplingOptions(
            temperature: try fields.float("temperature", in: 0...2, default: 1),
            topK: max(0, try fields.integer("top_k", in: -1...Int(Int32.max)) ?? 0),
            topP: topP,
            minP: try fields.float("min_p", in: 0...1, default: 0),
            frequencyPenalty: try fields.float("frequency_penalty", in: -2...2, default: 0),
            presencePenalty: try fields.float("presence_penalty", in: -2...2, default: 0),
            logitBias: try bias(fields, vocabulary: vocabulary))
    }

    private static func bias(_ fields: RequestFields, vocabulary: Int) throws(APIError) -> [Int32: Float] {
        guard let value = fields["logit_bias"] else { return [:] }
        guard let members = value.objectValue else {
            throw .badRequest("'logit_bias' must be an object, not \(value.kind)", param: "logit_bias")
        }
        var bias: [Int32: Float] = [:]
        for (name, value) in members {
            guard let id = Int32(name), (0..<vocabulary).contains(Int(id)) else {
                throw .badRequest(
                    "'logit_bias' has the key \(FormatError.quoted(name)); keys are token ids below \(vocabulary)",
                    param: "logit_bias")
            }
            guard let amount = value.doubleValue, (-100...100).contains(amount) else {
                throw .badRequest("'logit_bias' of token \(id) must be a number from -100 to 100", param: "logit_bias")
            }
            bias[id] = Float(amount)
        }
        return bias
    }

    private static func seed(_ fields: RequestFields) throws(APIError) -> UInt64? {
        guard let value = fields["seed"] else { return nil }
        guard case .integer(let seed) = value else {
            throw .badRequest("'seed' must be a whole number of 64 bits", param: "seed", code: "invalid_type")
        }
        return UInt64(bitPattern: seed)
    }

    private static func stops(_ fields: RequestFields, limits: HTTPLimits) throws(APIError) -> [String] {
        if let value = fields["stop"], let text = value.stringValue { return [try checked(text, limits)] }
        var stops: [String] = []
        for element in try fields.array("stop", limit: limits.stops) ?? [] {
            guard let text = element.stringValue else {
                throw .badRequest("'stop' must be a string or an array of strings", param: "stop", code: "invalid_type")
            }
            stops.append(try checked(text, limits))
        }
        return stops
    }

    private static func checked(_ stop: String, _ limits: HTTPLimits) throws(APIError) -> String {
        guard (1...limits.stopBytes).contains(stop.utf8.count) else {
            throw .badRequest("a text of 'stop' must have from 1 to \(limits.stopBytes) bytes", param: "stop")
        }
        return stop
    }
}
