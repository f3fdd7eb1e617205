#!/usr/bin/env python3
"""Writes the golden of a base model's logits, with or without an adapter: transformers and PEFT in f32 on text.

    pip install torch transformers gguf sentencepiece peft
    python Scripts/logits_golden.py models/base.bin datasets/smart-home/train.jsonl \\
        Tests/LoRATrainingTests/Goldens/base_logits.json [adapters/smart-home.lora]

The text is the first 512 tokens of the training split's utterances and answers, one to a line. Of each position the
golden keeps the log of the sum of exponentials, the largest logit with its id, and the logits of 8 seeded ids.
"""
import json
import sys
import tempfile
import zipfile

import torch
from peft import PeftModel

from oracle_base import load_base, splitmix64

TOKENS, SAMPLES = 512, 8


def sampled_ids(position, vocabulary):
    """The ids whose logits are kept: SplitMix64 from the position, modulo the vocabulary."""
    return [int(draw % vocabulary) for draw in map(int, splitmix64(position, SAMPLES))]


def main():
    base, data, output, *adapter = sys.argv[1:]
    torch.set_num_threads(2)
    model, tokenizer = load_base(base)
    if adapter:
        with tempfile.TemporaryDirectory() as folder:
            zipfile.ZipFile(adapter[0]).extractall(folder)
            model = PeftModel.from_pretrained(model, folder)
    with open(data, encoding="utf-8") as file:
        text = "\n".join(message["content"] for line in list(file)[:100] for message in json.loads(line)["messages"])
    ids = tokenizer(text, add_special_tokens=False).input_ids[:TOKENS]
    assert len(ids) == TOKENS
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double()
    positions = []
    for position in range(TOKENS):
        row = logits[position]
        best = int(row.argmax())
        kept = [round(float(row[index]), 4) for index in sampled_ids(position, row.numel())]
        positions.append([round(float(row.logsumexp(0)), 4), best, round(float(row[best]), 4), kept])
    header = {
        "madeBy": "Scripts/logits_golden.py", "torch": torch.__version__, "vocabulary": logits.shape[1],
        "samples": SAMPLES, "range": round(float(logits.max() - logits.min()), 4), "ids": ids,
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in header.items()]
    lines.append('"positions": [\n' + ",\n".join(json.dumps(p, separators=(",", ":")) for p in positions) + "\n]")
    with open(output, "w", encoding="utf-8", newline="\n") as file:
        file.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
