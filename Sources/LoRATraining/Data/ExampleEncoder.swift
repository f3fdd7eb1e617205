internal import Foundation
public import LoRAFormats
public import LoRAText

/// Which answers of a conversation are learned.
public enum LossMask: String, Sendable, CaseIterable {
    /// Every answer whose weight is not 0.
    case all
    /// The last of them alone; the others are context.
    case last
}

/// Turns rows into examples: chat template, tokens, and the mask of what is learned.
///
/// A token is supervised when one of its bytes belongs to an answer of the assistant, with the end-of-turn token that
/// the template writes after it. The prompt's own tokens need not be a prefix of the tokens of the whole: the mask comes
/// from places in the text.
public struct ExampleEncoder: Sendable {
    let tokenizer: Tokenizer
    let format: ChatFormat?
    /// Rows with more tokens are skipped.
    let maximumLength: Int
    /// Whether it is the base's context that sets the limit, so that no option can raise it.
    let isLimitedByContext: Bool
    let mask: LossMask
    /// Whether exact match will ask about the rows.
    let asksQuestions: Bool
    /// Everything that decides what a row becomes, as text; nil when it is not known.
    let identity: String?

    /// - Parameters:
    ///   - format: of the base; without one, rows of plain strings are joined as they are.
    ///   - contextLength: of the base; a larger maximum length is lowered to it.
    public init(
        tokenizer: Tokenizer, format: ChatFormat?, maximumLength: Int, contextLength: Int = .max,
        mask: LossMask = .all, asksQuestions: Bool = true
    ) {
        self.init(
            tokenizer, format, min(maximumLength, contextLength), isLimitedByContext: contextLength <= maximumLength,
            mask, asksQuestions, sourceIdentity: nil)
    }

    /// With the chat template of the base in `gguf`, whose `tokenizer` is given.
    /// - Throws: `TemplateError` when the template cannot be read.
    public init(
        gguf: GGUFFile, tokenizer: Tokenizer, maximumLength: Int, contextLength: Int, mask: LossMask = .all,
        asksQuestions: Bool
    ) throws {
        var source = gguf.digest(ofKeysFrom: "tokenizer.")
        if gguf.metadata["tokenizer.chat_template"]?.stringValue?.contains("strftime_now") == true {
            // Such a template writes the day into every row.
            source += " \(Int(Date().timeIntervalSince1970 / 86_400))"
        }
        self.init(
            tokenizer, try ChatFormat(gguf: gguf, tokenizer: tokenizer), min(maximumLength, contextLength),
            isLimitedByContext: contextLength <= maximumLength, mask, asksQuestions, sourceIdentity: source)
    }

    private init(
        _ tokenizer: Tokenizer, _ format: ChatFormat?, _ maximumLength: Int, isLimitedByContext: Bool,
        _ mask: LossMask, _ asksQuestions: Bool, sourceIdentity: String?
    ) {
        precondition(maximumLength > 0, "a maximum length of \(maximumLength)")
        self.tokenizer = tokenizer
        self.format = format
        self.maximumLength = maximumLength
        self.isLimitedByContext = isLimitedByContext
        self.mask = mask
        self.asksQuestions = asksQuestions
        identity = sourceIdentity.map { "\($0) \(maximumLength) \(mask.rawValue) \(asksQuestions)" }
    }

    /// What holds for every row of the file, so that it is not said of each.
    private static let noTemplate = TrainingDataError(
        "the rows are conversations, but the base has no chat template to write them with; "
            + "use a base with a template, or rows of prompt and completion")

    /// One example, or two of a row that prefers one answer to another: the preferred one's first.
    /// - Throws: what the template reports of this row, or a `TrainingDataError` that concerns all rows.
    func examples(of row: DatasetRow, line: Int) throws -> [Example] {
        guard case .preference(let chosen, let rejected) = row else { return [try example(of: row, line: line)] }
        return [try example(of: chosen, line: line), try example(of: rejected, line: line)]
    }

    /// - Throws: what the template reports of this row, or a `TrainingDataError` that concerns all rows.
    func example(of row: DatasetRow, line: Int) throws -> Example {
        if let conversation = conversation(of: row) { return try example(of: conversation, line: line) }
        switch row {
        case .text(let text): return plain(prompt: "", answer: text, line: line)
        case .completion(let prompt, let completion): return plain(prompt: prompt, answer: completion, line: line)
        case .instruction(let instruction, let input, let output):
            return plain(prompt: Self.joined(instruction, input) + "\n\n", answer: output, line: line)
        case .continuation(let beginning, let rest): return plain(prompt: beginning, answer: rest, line: line)
        case .preference(let chosen, _): return try example(of: chosen, line: line)
        case .conversation: throw Self.noTemplate
        }
    }

    /// What exact match asks of the row; nil for plain text.
    func question(of row: DatasetRow, line: Int) throws -> Question? {
        if let conversation = conversation(of: row), let format {
            guard let last = conversation.messages.lastIndex(where: \.isAnswer),
                let answer = conversation.messages[last].value["content"]?.stringValue
            else { return nil }
            let text = try format.render(
                messages: conversation.messages[..<last].map(\.value), tools: conversation.tools,
                addGenerationPrompt: true)
            return Question(prompt: tokenizer.encode(text), answer: answer, line: line)
        }
        switch row {
        case .completion(let prompt, let completion):
            return Question(prompt: opened(tokenizer.encode(prompt)), answer: completion, line: line)
        case .instruction(let instruction, let input, let output):
            let prompt = Self.joined(instruction, input) + "\n\n"
            return Question(prompt: opened(tokenizer.encode(prompt)), answer: output, line: line)
        case .text, .conversation, .continuation, .preference: return nil
        }
    }
}

extension ExampleEncoder {
    /// The row as messages, if the base has a template to write them with.
    private func conversation(of row: DatasetRow) -> Conversation? {
        guard format != nil else { return nil }
        switch row {
        case .text, .continuation, .preference: return nil
        case .conversation(let conversation): return conversation
        case .completion(let prompt, let completion): return Conversation(question: prompt, answer: completion)
        case .instruction(let instruction, let input, let output):
            return Conversation(question: Self.joined(instruction, input), answer: output)
        }
    }

    private static func joined(_ instruction: String, _ input: String) -> String {
        input.isEmpty ? instruction : "\(instruction)\n\n\(input)"
    }

    /// The conversation as the template writes it, its learned answers supervised.
    func example(of conversation: Conversation, line: Int) throws -> Example {
        guard let format else { throw Self.noTemplate }
        let (text, spans) = try format.template.renderWithAssistantSpans(
            format.variables(
                messages: conversation.messages.map(\.value), tools: conversation.tools, addGenerationPrompt: false))
        let (ids, ranges) = tokenizer.encodeWithRanges(text)
        let learned = try learned(spans, of: conversation)
        return Example(tokens: ids, supervised: overlaps(of: ranges, with: learned), line: line)
    }

    /// Those of `spans`, one for each answer, that are supervised.
    private func learned(_ spans: [Range<Int>], of conversation: Conversation) throws -> [Range<Int>] {
        var isLearned = conversation.messages.filter(\.isAnswer).map(\.isLearned)
        if mask == .last, let last = isLearned.lastIndex(of: true) {
            for index in isLearned.indices where index != last { isLearned[index] = false }
        }
        if !isLearned.contains(true) { return [] }
        if !isLearned.contains(false) { return spans }
        guard spans.count == isLearned.count else {
            throw FormatError(
                "not all answers are learned, but the template has \(spans.count) generation blocks for "
                    + "\(isLearned.count) answers, so they cannot be told apart")
        }
        return zip(spans, isLearned).filter(\.1).map(\.0)
    }

    /// Whether each range shares a byte with a span. Both are in ascending order.
    private func overlaps(of ranges: [Range<Int>], with spans: [Range<Int>]) -> [Bool] {
        var next = 0
        return ranges.map { range in
            while next < spans.count, spans[next].upperBound <= range.lowerBound { next += 1 }
            return next < spans.count && spans[next].overlaps(range)
        }
    }
}

extension ExampleEncoder {
    /// Prompt and answer end to end. BOS is put before when the base wants it and the text has none; EOS after the
    /// answer, supervised, so that the model learns to stop.
    private func plain(prompt: String, answer: String, line: Int) -> Example {
        let (ids, ranges) = tokenizer.encodeWithRanges(prompt + answer)
        let start = prompt.utf8.count
        let span = start..<start + answer.utf8.count
        var tokens = opened(ids)
        var supervised = Array(repeating: false, count: tokens.count - ids.count)
        supervised += overlaps(of: ranges, with: span.isEmpty ? [] : [span])
        if !answer.isEmpty, let eos = tokenizer.eosID, !endsTurn(ids) {
            tokens.append(eos)
            supervised.append(true)
        }
        return Example(tokens: tokens, supervised: supervised, line: line)
    }

    /// Whether the text itself ends with an end-of-turn token, perhaps with white space after it.
    private func endsTurn(_ ids: [Int32]) -> Bool {
        let last = ids.last { id in
            !tokenizer.bytes(of: id).allSatisfy { [0x20, 0x09, 0x0A, 0x0D].contains($0) }
        }
        return last.map(tokenizer.endIDs.contains) ?? false
    }

    private func opened(_ ids: [Int32]) -> [Int32] {
        guard tokenizer.addsBOS, let bos = tokenizer.bosID, ids.first != bos else { return ids }
        return [bos] + ids
    }
}
