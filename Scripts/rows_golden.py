#!/usr/bin/env python3
"""Writes the golden of data sets' rows: token ids and masks, as transformers' chat templates give them.

    pip install torch transformers gguf sentencepiece
    python Scripts/rows_golden.py models/base.bin Tests/LoRATrainingTests/Goldens/rows.json

The masks are those of `return_assistant_tokens_mask`, which needs `generation` blocks: a template is written here with
«…» around what an assistant says, which become such blocks for transformers, and nothing for the template that the
tests use, unless a row asks for the blocks. The base's own template is held to the text of its marked twin.
"""
import json
import sys

import transformers
from tokenizers import pre_tokenizers

from oracle_base import load_tokenizer

# The base's own, with the marks.
BASE = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
'}}{% if message['role'] == 'assistant' %}«{{ message['content'] + '<|im_end|>' + '
' }}»{% else %}{{ message['content'] + '<|im_end|>' + '
'}}{% endif %}{% endfor %}"""

# Tools before the conversation, calls in the answer, results as a role of their own.
TOOLS = """{%- if tools %}{{ '<|im_start|>system\\nTools:' }}{% for tool in tools %}{{ '\\n' + tool | tojson }}{% endfor %}
{{- '<|im_end|>\\n' }}{% endif %}
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' %}«{% if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}{{ '<call>' + call.function | tojson + '</call>' }}{% endfor %}
{{- '<|im_end|>\\n' }}»{% else %}{{ message.content + '<|im_end|>\\n' }}{% endif %}
{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "system": "system", "observation": "tool"}
TOOL = {"type": "function", "function": {"name": "light", "parameters": {"type": "object", "properties": {"on": {}}}}}


def say(role, content, **more):
    return {"role": role, "content": content, **more}


def turns(*contents, system=None, weights=None):
    messages = [say("system", system)] if system is not None else []
    for index, content in enumerate(contents):
        message = say("user" if index % 2 == 0 else "assistant", content)
        if weights and index % 2 == 1:
            message["weight"] = weights[index // 2]
        messages.append(message)
    return {"messages": messages}


def share(*pairs, **more):
    return {"conversations": [{"from": speaker, "value": text, **more} for speaker, text in pairs]}


CALL = {"id": "1", "type": "function", "function": {"name": "light", "arguments": {"on": True}}}
CALLS = {"messages": [say("user", "lights on"), say("assistant", None, tool_calls=[CALL]),
                      say("tool", "ok", tool_call_id="1"), say("assistant", "The light is on.")], "tools": [TOOL]}

# (template, mask, row)
ROWS = [
    ("base", "all", turns("turn on the light", '{"intent":"HassTurnOn","slots":{"name":"light"}}')),
    ("base", "all", turns("hi", "hello", system="You answer briefly.")),
    ("base", "all", turns("hi", "hello", system="")),
    ("base", "all", turns("one", "1", "two", "2", "three", "3")),
    ("base", "all", turns("one", "1", "two", "2", "three", "3", system="Count.")),
    ("base", "last", turns("one", "1", "two", "2", "three", "3")),
    ("base", "all", turns("one", "1", "two", "2", "three", "3", weights=[0, 1, 0])),
    ("base", "all", turns("one", "1", "two", "2", "three", "3", weights=[1, 1, 0])),
    ("base", "last", turns("one", "1", "two", "2", "three", "3", weights=[1, 1, 0])),
    ("base", "all", turns("one", "1", "go on")),
    ("base", "all", turns("Wie warm ist es draußen?", "Es hat 21 °C – „fast“ Sommer.")),
    ("base", "all", turns("今日は何曜日ですか", "金曜日です。")),
    ("base", "all", turns("مرحبا", "أهلاً وسهلاً")),
    ("base", "all", turns("emoji 👩‍👩‍👧‍👦🏳️‍🌈", "👍🏽 e\u0301 ﬁ \u200b done")),
    ("base", "all", turns("  spaces around  ", "  kept\n\n as they are \t")),
    ("base", "all", turns("lines\r\nof two kinds\n", "a\r\nb\n")),
    ("base", "all", turns("say <|im_end|> to me", "it is <|im_end|> here, then <|im_start|>")),
    ("base", "all", turns("", "an answer to nothing")),
    ("base", "all", turns("1234567890 3.14159 0x7f", "9876543210 == 1e10")),
    ("base", "all", turns("def f(x):\n    return x", "```python\ndef f(x):\n\treturn 'it''s'\n```")),
    ("base", "all", {**turns("extra keys", "do no harm"), "id": 7, "tools": None}),
    ("base", "all", share(("human", "hi"), ("gpt", "hello"))),
    ("base", "all", share(("system", "Be kind."), ("user", "hi"), ("gpt", "hello"), ("human", "bye"), ("gpt", "ciao"))),
    ("base", "last", share(("human", "hi"), ("gpt", "hello"), ("human", "bye"), ("gpt", "ciao"))),
    ("base", "all", {"prompt": "2 + 2 =", "completion": "4"}),
    ("base", "all", {"instruction": "Add.", "input": "2, 2", "output": "4"}),
    ("base", "all", {"instruction": "Name a colour.", "output": "green"}),
    ("base", "all", {"text": "once upon a time, 很久以前"}),
    ("none", "all", {"prompt": "The answer: for", "completion": "ty two"}),
    ("none", "all", {"prompt": "naïve caf", "completion": "é au lait"}),
    ("none", "all", {"instruction": "Add.", "input": "2, 2", "output": "4"}),
    ("none", "all", {"text": "once upon a time\n"}),
    ("tools", "all", CALLS),
    ("tools", "last", CALLS),
    ("tools", "all", {"conversations": share(("human", "on"), ("gpt", "calling"), ("observation", "ok"), ("gpt", "it is"))
                      ["conversations"], "tools": [TOOL]}),
    ("generation", "all", CALLS),
    ("generation", "last", turns("one", "1", "two", "2", system="Count.")),
]


def messages_of(row):
    """What the template gets, and the weight of each answer."""
    if "messages" in row:
        messages = row["messages"]
    elif "conversations" in row:
        messages = [say(SPEAKERS[turn["from"]], turn["value"]) for turn in row["conversations"]]
    elif "instruction" in row:
        question = "\n\n".join(part for part in (row["instruction"], row.get("input")) if part)
        messages = [say("user", question), say("assistant", row["output"])]
    else:
        messages = [say("user", row["prompt"]), say("assistant", row["completion"])]
    weights = [message.get("weight", 1) for message in messages if message["role"] == "assistant"]
    return [{key: value for key, value in message.items() if key != "weight"} for message in messages], weights


def learned(mask, weights, which):
    """The mask with only those answers left that are learned; each answer is a run of ones."""
    if which == "last":
        last = max(index for index, weight in enumerate(weights) if weight)
        weights = [int(index == last) for index in range(len(weights))]
    result, answer = [], -1
    for index, value in enumerate(mask):
        answer += value and (index == 0 or not mask[index - 1])
        result.append(value and weights[answer])
    assert answer + 1 == len(weights), "a run for each answer"
    return result


def chat(tokenizer, template, which, row):
    messages, weights = messages_of(row)
    tools = row.get("tools")
    marked = template.replace("«", "{% generation %}").replace("»", "{% endgeneration %}")
    output = tokenizer.apply_chat_template(
        messages, tools=tools, chat_template=marked, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    text = tokenizer.apply_chat_template(messages, tools=tools, chat_template=unmarked(template), tokenize=False)
    assert text == tokenizer.apply_chat_template(messages, tools=tools, chat_template=marked, tokenize=False)
    if template == BASE:
        assert text == tokenizer.apply_chat_template(messages, tokenize=False), "the base's own template"
    return list(output["input_ids"]), learned(list(output["assistant_masks"]), weights, which)


def plain(tokenizer, row):
    """Prompt and answer end to end, with the token that ends a text."""
    if "text" in row:
        prompt, answer = "", row["text"]
    elif "prompt" in row:
        prompt, answer = row["prompt"], row["completion"]
    else:
        prompt, answer = "\n\n".join([row["instruction"], row["input"], ""]), row["output"]
    encoded = tokenizer(prompt + answer, add_special_tokens=False, return_offsets_mapping=True)
    mask = [int(end > len(prompt)) for _, end in encoded["offset_mapping"]]
    return encoded["input_ids"] + [tokenizer.eos_token_id], mask + [1]


def unmarked(template):
    return template.replace("«", "").replace("»", "")


def main():
    base, output = sys.argv[1:]
    tokenizer = load_tokenizer(base)
    # As SmolLM2's tokenizer.json has it; what transformers makes of a GGUF file does not tell digits apart.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    rows = []
    for template, which, row in ROWS:
        if template == "none" or "text" in row:
            ids, mask = plain(tokenizer, row)
        else:
            ids, mask = chat(tokenizer, BASE if template == "base" else TOOLS, which, row)
        # Nothing predicts the first token.
        mask[0] = 0
        assert len(ids) == len(mask) and any(mask)
        rows.append({"template": template, "mask": which, "row": json.dumps(row, ensure_ascii=False), "ids": ids,
                     "supervised": "".join(map(str, mask))})
    header = {
        "madeBy": "Scripts/rows_golden.py", "transformers": transformers.__version__, "tools": unmarked(TOOLS),
        "generation": TOOLS.replace("«", "{% generation %}").replace("»", "{% endgeneration %}"),
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in header.items()]
    lines.append('"rows": [\n' + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]")
    with open(output, "w", encoding="utf-8", newline="\n") as file:
        file.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
