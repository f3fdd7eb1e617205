import LoRAFormats
import OrderedCollections

/// Writes log-probabilities as the OpenAI interface has them.
enum Logprobs {
    /// What the interface has in place of minus infinity, which JSON lacks.
    private static let least: Float = -9999

    private static func number(_ logprob: Float) -> JSONValue {
        JSONValue(logprob.isFinite ? max(least, logprob) : least)
    }

    // MARK: Chat

    /// `{content: [{token, logprob, bytes, top_logprobs}]}`; the tokens put together are the text.
    static func chat(_ tokens: [ScoredToken]) -> JSONValue {
        let content = tokens.map { token in
            var members = entry(token.text, token.bytes, token.logprob ?? least)
            members["top_logprobs"] = .array(
                token.alternatives.map { .object(entry($0.text, $0.bytes, $0.logprob)) })
            return JSONValue.object(members)
        }
        return .object(["content": .array(content), "refusal": .null])
    }

    private static func entry(
        _ text: String, _ bytes: [UInt8], _ logprob: Float
    ) -> OrderedDictionary<String, JSONValue> {
        ["token": .string(text), "logprob": number(logprob), "bytes": .array(bytes.map { JSONValue(Int($0)) })]
    }

    // MARK: Completions

    /// `{tokens, token_logprobs, top_logprobs, text_offset}`; `offset` is that of the first token, in Unicode scalars, and
    /// becomes that after the last. Tokens are named by their bytes, so that parts of characters differ from each other,
    /// and a token equals its name among the alternatives.
    static func completions(_ tokens: [ScoredToken], offset: inout Int) -> JSONValue {
        var offsets: [JSONValue] = []
        for token in tokens {
            offsets.append(JSONValue(offset))
            offset += token.text.unicodeScalars.count
        }
        return .object([
            "tokens": .array(tokens.map { .string(name($0.bytes)) }),
            "token_logprobs": .array(tokens.map { $0.logprob.map(number) ?? .null }),
            "top_logprobs": .array(tokens.map(alternatives)),
            "text_offset": .array(offsets),
        ])
    }

    /// The most likely tokens and the one that was taken, by name.
    private static func alternatives(_ token: ScoredToken) -> JSONValue {
        guard let logprob = token.logprob else { return .null }
        var names: OrderedDictionary<String, JSONValue> = [:]
        for alternative in token.alternatives {
            let name = name(alternative.bytes)
            if names[name] == nil { names[name] = number(alternative.logprob) }
        }
        if names[name(token.bytes)] == nil { names[name(token.bytes)] = number(logprob) }
        return .object(names)
    }

    /// A token's text, or its bytes where they are no text.
    private static func name(_ bytes: [UInt8]) -> String {
        if let text = String(validating: bytes, as: UTF8.self) { return text }
        return "bytes:" + bytes.map { "\\x" + ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
