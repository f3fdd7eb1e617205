/// Tokens that end a turn or a text, by name: files often give only one of them as EOS.
package enum EndTokens {
    /// The names by which llama.cpp knows them, without its marks for filling gaps in code, which end nothing here.
    package static let names = [
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
        "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
        "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
    ]

    static func ids(of definition: TokenizerDefinition, table: TokenTable) -> Set<Int32> {
        var ids = Set(names.compactMap { table.id(of: $0) })
        let given = [definition.eosID, definition.eotID, definition.eomID].compactMap { $0 }
        // In these two formats `<|end|>` ends one message of several in a turn.
        let severalMessages = [["<|return|>", "<|call|>"], ["<|calls|>", "<|flush|>"]]
        if severalMessages.contains(where: { $0.allSatisfy { table.id(of: $0) != nil } }),
            let id = table.id(of: "<|end|>")
        {
            ids.remove(id)
        }
        return ids.union(given.map { Int32($0) })
    }
}
