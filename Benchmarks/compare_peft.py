#!/usr/bin/env python3
"""Trains the same work with PyTorch + PEFT and with lora, in turn, and prints the ratios.

    pip install torch transformers peft gguf sentencepiece
    make bench                                  # builds the other side
    python3 Benchmarks/compare_peft.py models/base.bin datasets/smart-home [--rounds 3] [--only 4x256-bf16]

Each measurement is a process of its own; both sides report the fastest step and their peak memory. PEFT runs in its
fastest form: bf16 compiled, f32 as it is. Stop everything else first.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "Scripts"))
BENCH = os.path.join(HERE, ".build/release/bench")
THREADS = os.cpu_count()
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


def save_models(base, folder):
    """The base in both element types, so that loading it does not count as PEFT's memory."""
    import torch
    from oracle_base import load_base
    from transformers import LlamaConfig, LlamaForCausalLM

    loaded, tokenizer = load_base(base)
    config = loaded.config.to_dict()
    config.pop("quantization_config", None)
    model = LlamaForCausalLM(LlamaConfig(**config))
    model.load_state_dict(loaded.state_dict())
    for name, dtype in ("f32", torch.float32), ("bf16", torch.bfloat16):
        model.to(dtype).save_pretrained(os.path.join(folder, name))
        tokenizer.save_pretrained(os.path.join(folder, name))


def peft_model(folder):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    return get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=ATTENTION, task_type="CAUSAL_LM"))


def random_batches():
    import torch

    for _ in range(8):
        ids = torch.randint(0, 49000, (4, 256))
        yield {"input_ids": ids, "labels": ids}, ids.numel()


def smart_home_batches(folder, directory):
    """The first rows, 16 to a step, padded to the longest; only answers are supervised."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)

    def encode(messages):
        prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
        whole = prompt + messages[-1]["content"] + "<|im_end|>\n"
        encode = lambda text: tokenizer(text, add_special_tokens=False).input_ids
        return encode(whole), len(encode(prompt))

    with open(os.path.join(directory, "train.jsonl")) as lines:
        rows = [encode(json.loads(line)["messages"]) for _, line in zip(range(12 * 16), lines)]
    for first in range(0, len(rows), 16):
        part = rows[first:first + 16]
        length = max(len(ids) for ids, _ in part)
        ids = torch.full((len(part), length), 2)
        labels = torch.full((len(part), length), -100)
        mask = torch.zeros(len(part), length, dtype=torch.long)
        for row, (tokens, start) in enumerate(part):
            ids[row, :len(tokens)] = torch.tensor(tokens)
            labels[row, start:len(tokens)] = torch.tensor(tokens[start:])
            mask[row, :len(tokens)] = 1
        yield {"input_ids": ids, "labels": labels, "attention_mask": mask}, int(mask.sum())


def peft_worker(name, folder, data):
    import torch

    model = peft_model(folder)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    model.train()
    batches = smart_home_batches(folder, data) if name.startswith("smart-home") else random_batches()
    compiled = not name.endswith("f32")
    run = torch.compile(model, dynamic=name.startswith("smart-home")) if compiled else model
    best = 0.0
    for inputs, tokens in batches:
        start = time.perf_counter()
        run(**inputs).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        best = max(best, tokens / (time.perf_counter() - start))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"tokensPerSecond": best, "peakResidentBytes": peak}))


def measure(command):
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return json.loads(output.decode().strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base")
    parser.add_argument("data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker == "save":
        return save_models(options.base, options.data)
    if options.worker:
        return peft_worker(options.worker, options.base, options.data)
    with tempfile.TemporaryDirectory() as models:
        subprocess.run([sys.executable, __file__, options.base, models, "--worker", "save"], check=True)
        compare(options, models)


def compare(options, models):
    print(f"{'work':24}{'lora tok/s':>12}{'PEFT tok/s':>12}{'ratio':>8}{'lora MB':>10}{'PEFT MB':>10}{'share':>8}")
    for name in ["4x256-bf16", "smart-home-bf16", "4x256-f32"]:
        if options.only not in (None, name):
            continue
        pairs = []
        for _ in range(options.rounds):
            ours = measure([BENCH, "--worker", name, "--base", options.base, "--data", options.data])
            folder = os.path.join(models, name.split("-")[-1])
            theirs = measure([sys.executable, __file__, folder, options.data, "--worker", name])
            pairs.append((ours, theirs))
        middle = lambda value: statistics.median(value(ours, theirs) for ours, theirs in pairs)
        print(
            f"{name:24}{middle(lambda a, _: a['tokensPerSecond']):12.0f}"
            f"{middle(lambda _, b: b['tokensPerSecond']):12.0f}"
            f"{middle(lambda a, b: a['tokensPerSecond'] / b['tokensPerSecond']):8.2f}"
            f"{middle(lambda a, _: a['peakResidentBytes']) / 1e6:10.0f}"
            f"{middle(lambda _, b: b['peakResidentBytes']) / 1e6:10.0f}"
            f"{middle(lambda a, b: a['peakResidentBytes'] / b['peakResidentBytes']):8.0%}")


if __name__ == "__main__":
    main()
