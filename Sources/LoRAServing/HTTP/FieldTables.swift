import LoRAFormats
import OrderedCollections

/// What each route makes of each field: anything that is not here is refused by its name.
enum FieldTables {
    static let chat = sampling.merging(
        [
            "messages": .supported, "max_completion_tokens": .supported, "top_logprobs": .supported,
            "logprobs": .supported,
            "parallel_tool_calls": .ignored,
            "tools": .neutral([.array([])]), "tool_choice": .neutral([.string("none"), .string("auto")]),
            "functions": .neutral([.array([])]), "function_call": .neutral([.string("none"), .string("auto")]),
            "modalities": .neutral([.array([.string("text")])]),
            "verbosity": .neutral([.string("medium")]), "reasoning_effort": .neutral([.string("none")]),
            "add_generation_prompt": .neutral([.bool(true)]), "continue_final_message": .neutral([.bool(false)]),
            "chat_template_kwargs": .neutral([.object([:])]),
            "audio": .unsupported, "prediction": .unsupported, "web_search_options": .unsupported,
            "chat_template": .unsupported, "documents": .unsupported,
        ], uniquingKeysWith: { $1 })

    static let completions = sampling.merging(
        [
            "prompt": .supported, "echo": .supported, "logprobs": .supported,
            "best_of": .neutral([.integer(1)]), "suffix": .neutral([.string("")]),
        ], uniquingKeysWith: { $1 })

    static let message: [String: FieldRule] = [
        "role": .supported, "content": .supported, "name": .supported, "tool_call_id": .supported,
        "refusal": .neutral([]), "audio": .neutral([]), "annotations": .neutral([.array([])]),
        "tool_calls": .neutral([.array([])]), "function_call": .unsupported, "reasoning_content": .unsupported,
    ]

    static let contentPart: [String: FieldRule] = ["type": .supported, "text": .supported]

    static let streamOptions: [String: FieldRule] = [
        "include_usage": .supported, "include_obfuscation": .neutral([.bool(false)]),
        "continuous_usage_stats": .neutral([.bool(false)]),
    ]

    static let loading: [String: FieldRule] = [
        "lora_name": .supported, "lora_path": .supported, "load_inplace": .supported,
        "base_model_name": .ignored,
    ]

    static let unloading: [String: FieldRule] = ["lora_name": .supported, "lora_int_id": .ignored]

    /// Both kinds of completions.
    private static let sampling: [String: FieldRule] = [
        "model": .supported, "max_tokens": .supported, "temperature": .supported, "top_p": .supported,
        "top_k": .supported, "min_p": .supported, "n": .supported, "stop": .supported, "seed": .supported,
        "stream": .supported, "stream_options": .supported, "frequency_penalty": .supported,
        "presence_penalty": .supported, "logit_bias": .supported,
        // They concern bookkeeping that this server does not do.
        "user": .ignored, "metadata": .ignored, "safety_identifier": .ignored, "prompt_cache_key": .ignored,
        "store": .neutral([.bool(false)]), "service_tier": .neutral([.string("auto"), .string("default")]),
        "prompt_cache_retention": .ignored,
        "response_format": .neutral([.object(["type": .string("text")])]),
        // Extensions of other servers, at the values that change nothing.
        "repetition_penalty": .neutral([.integer(1)]), "length_penalty": .neutral([.integer(1)]),
        "min_tokens": .neutral([.integer(0)]), "ignore_eos": .neutral([.bool(false)]),
        "stop_token_ids": .neutral([.array([])]), "skip_special_tokens": .neutral([.bool(true)]),
        "include_stop_str_in_output": .neutral([.bool(false)]), "use_beam_search": .neutral([.bool(false)]),
        "cache_prompt": .neutral([.bool(true)]), "prompt_logprobs": .unsupported, "logits_processors": .unsupported,
        "guided_json": .unsupported, "guided_regex": .unsupported, "guided_choice": .unsupported,
        "guided_grammar": .unsupported, "structured_outputs": .unsupported, "json_schema": .unsupported,
        "grammar": .unsupported,
    ]
}
