internal import LoRAFormats
internal import OrderedCollections

/// The forms a row of a data set can have. The first row decides; every other row must have the same.
public enum RowForm: String, Codable, Sendable, CaseIterable {
    /// `chosen` and `rejected`, and `prompt` unless both begin with it: two answers, of which one is preferred.
    case preference = "prompt + chosen + rejected"
    /// OpenAI's `messages`: objects with `role` and `content`, perhaps with `tools` beside them.
    case messages = "messages"
    /// ShareGPT's `conversations`: objects with `from` and `value`.
    case conversations = "conversations"
    /// `prompt` and `completion`.
    case completion = "prompt + completion"
    /// Alpaca's `instruction`, perhaps with `input`, and `output`.
    case instruction = "instruction + output"
    /// `text`, all of which is learned.
    case text = "text"

    /// The keys a row of this form cannot do without.
    var requiredKeys: [String] {
        switch self {
        case .preference: ["chosen", "rejected"]
        case .messages: ["messages"]
        case .conversations: ["conversations"]
        case .completion: ["prompt", "completion"]
        case .instruction: ["instruction", "output"]
        case .text: ["text"]
        }
    }

    /// The form of a row with these members; in the order of the cases where several fit.
    static func detect(in row: JSONValue) throws(FormatError) -> RowForm {
        guard case .object(let members) = row else {
            throw FormatError("expected a JSON object, found \(RowText.kind(of: row))")
        }
        for form in allCases where form.requiredKeys.allSatisfy({ members[$0] != nil }) { return form }
        let forms = allCases.map(\.rawValue).joined(separator: ", or ")
        throw FormatError("has the keys \(RowText.list(members)); a row needs \(forms)")
    }
}
