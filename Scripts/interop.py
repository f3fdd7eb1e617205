#!/usr/bin/env python3
"""Runs what lora writes in llama.cpp, and compares what both say.

    pip install llama-cpp-python          (built from its source package)
    python Scripts/interop.py .build/release/lora models/base.bin adapters/smart-home.lora datasets/smart-home

Greedy text of 64 tokens on ten prompts must be equal for a merged base and for a base with the exported GGUF adapter,
in f32 and bf16; perplexity must agree within 0.5% for a base as it is (quantised) and merged as Q8_0.
"""
import json
import math
import os
import subprocess
import sys
import tempfile

import numpy
from llama_cpp import Llama

PROMPTS, TOKENS, PERPLEXITY_ROWS = 10, 64, 40


class Checks:
    """Prints a line per comparison; some may fail before all have run."""

    def __init__(self):
        self.failures = 0

    def add(self, what, holds, figure):
        self.failures += not holds
        print(f"{'holds' if holds else 'FAILS'}  {what}: {figure}", flush=True)


def run(*arguments):
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout


def chat(user):
    return f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"


def equal_texts(checks, what, lora, base, prompts, ours=(), theirs=None):
    """Greedy text of `lora generate` with arguments `ours`, and of llama.cpp with the adapter `theirs`."""
    model = Llama(base, lora_path=theirs, n_ctx=512, verbose=False, n_threads=os.cpu_count())
    differ = []
    for prompt in prompts:
        reply = model.create_completion(chat(prompt), max_tokens=TOKENS, temperature=0, repeat_penalty=1.0)
        text = run(lora, "generate", "--base", base, *ours, "--raw", "--prompt", chat(prompt), "--max-tokens",
                   str(TOKENS), "--quiet")
        if reply["choices"][0]["text"] != text.removesuffix("\n"):
            differ.append(prompt)
    checks.add(what, not differ, f"{len(prompts) - len(differ)} of {len(prompts)} texts equal")


def equal_perplexity(checks, what, lora, base, rows, folder):
    """Perplexity of whole rows, as raw text, by both."""
    data = os.path.join(folder, "text.jsonl")
    with open(data, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps({"text": row}) + "\n")
    report = json.loads(run(lora, "eval", "--base", base, "--data", data, "--metrics", "loss", "--compute", "f32",
                            "--quiet", "--json"))
    ours = report["results"][0]["loss"]
    model = Llama(base, n_ctx=512, logits_all=True, verbose=False, n_threads=os.cpu_count())
    total, count = 0.0, 0
    for row in rows:
        # A row of text ends with the token that ends a text.
        tokens = model.tokenize(row.encode(), add_bos=False, special=True) + [model.token_eos()]
        model.reset()
        model.eval(tokens)
        logits = numpy.array(model.scores[:len(tokens) - 1], dtype=numpy.float64)
        top = logits.max(1, keepdims=True)
        sums = numpy.log(numpy.exp(logits - top).sum(1)) + top[:, 0]
        total += float((sums - logits[numpy.arange(len(tokens) - 1), tokens[1:]]).sum())
        count += len(tokens) - 1
    theirs = total / count
    ratio = math.exp(abs(ours - theirs)) - 1
    checks.add(what, count == report["supervised_tokens"] and ratio <= 0.005,
               f"perplexity {math.exp(ours):.4f} and {math.exp(theirs):.4f} on {count} tokens, {ratio:.2%} apart")


def main():
    lora, base, adapter, data = sys.argv[1:5]
    with open(os.path.join(data, "test.jsonl"), encoding="utf-8") as file:
        messages = [json.loads(line)["messages"] for line in file]
    step = len(messages) // PROMPTS
    prompts = [next(m["content"] for m in row if m["role"] == "user") for row in messages[::step][:PROMPTS]]
    rows = ["\n".join(m["content"] for m in row) for row in messages[:PERPLEXITY_ROWS]]
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        exported = os.path.join(folder, "adapter.gguf")
        run(lora, "export", adapter, "--base", base, "--format", "gguf", "--output", exported)
        for kind in ("f32", "bf16"):
            merged = os.path.join(folder, f"merged-{kind}.gguf")
            run(lora, "merge", adapter, "--into", base, "--output", merged, "--type", kind, "--quiet")
            equal_texts(checks, f"merged base, {kind}", lora, merged, prompts)
            os.remove(merged)
            plain = os.path.join(folder, f"plain-{kind}.gguf")
            run(lora, "import", base, "--output", plain, "--type", kind)
            equal_texts(checks, f"{kind} base and exported adapter", lora, plain, prompts, ours=(
                "--adapter", adapter, "--allow-other-base"), theirs=exported)
            os.remove(plain)
        equal_perplexity(checks, "base as it is, quantised", lora, base, rows, folder)
        merged = os.path.join(folder, "merged-q8_0.gguf")
        run(lora, "merge", adapter, "--into", base, "--output", merged, "--type", "q8_0", "--quiet")
        equal_perplexity(checks, "merged base, q8_0", lora, merged, rows, folder)
        merged = os.path.join(folder, "merged-same.gguf")
        run(lora, "merge", adapter, "--into", base, "--output", merged, "--quiet")
        equal_perplexity(checks, "merged base, its own types", lora, merged, rows, folder)
    sys.exit(1 if checks.failures else 0)


if __name__ == "__main__":
    main()
