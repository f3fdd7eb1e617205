#!/usr/bin/env python3
r"""Trains the same work with PyTorch + PEFT and with lora, in turn, and prints the ratios.

    pip install torch transformers peft gguf sentencepiece
    make bench                                  # builds the other side
    python3 Benchmarks/compare_peft.py models/base.bin datasets/smart-home [--rounds 3] [--only 4x256-f32] \
        [--json Benchmarks/peft.json]

Each measurement is a process of its own, and both sides are measured alike: the median step after the first one, and
the peak of resident memory. PEFT runs compiled, in f32 also as it is, and the faster form of a round counts. A ratio is
the median of those of the rounds. Exits with 1 when one misses its bar. Stop everything else first.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "Scripts"))
BENCH = os.path.join(HERE, ".build/release/bench")
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
# PEFT's forms, the least ratio of tokens a second, and the largest share of PEFT's memory.
WORK = {
    "4x256-bf16": (["compiled"], 1.4, 0.4),
    "smart-home-bf16": (["compiled"], 2.5, None),
    "4x256-f32": (["compiled", "eager"], 1.15, 0.4),
}


def save_models(base, folder):
    """The base in both element types, so that loading it does not count as PEFT's memory."""
    import torch
    from oracle_base import load_base
    from transformers import LlamaConfig, LlamaForCausalLM

    loaded, tokenizer = load_base(base)
    # A model loaded from GGUF refuses to be saved, so its weights move into a plain one.
    config = loaded.config.to_dict()
    config.pop("quantization_config", None)
    model = LlamaForCausalLM(LlamaConfig(**config))
    model.load_state_dict(loaded.state_dict())
    for name, dtype in ("f32", torch.float32), ("bf16", torch.bfloat16):
        model.to(dtype).save_pretrained(os.path.join(folder, name))
        tokenizer.save_pretrained(os.path.join(folder, name))


def peft_model(folder, threads):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    return get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=ATTENTION, task_type="CAUSAL_LM"))


def random_batches():
    """(inputs, tokens) of each step: random tokens, all supervised."""
    import torch

    for _ in range(8):
        ids = torch.randint(0, 49000, (4, 256))
        yield {"input_ids": ids, "labels": ids}, ids.numel()


def smart_home_batches(folder, data):
    """(inputs, real tokens) of each step: the first rows of the file, padded to the longest of 16; only answers are
    supervised."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)

    def ids(text):
        return tokenizer(text, add_special_tokens=False).input_ids

    def encode(messages):
        prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
        return ids(prompt + messages[-1]["content"] + "<|im_end|>\n"), len(ids(prompt))

    with open(os.path.join(data, "train.jsonl")) as lines:
        rows = [encode(json.loads(line)["messages"]) for _, line in zip(range(12 * 16), lines)]
    for first in range(0, len(rows), 16):
        part = rows[first : first + 16]
        shape = len(part), max(len(tokens) for tokens, _ in part)
        padded, labels = torch.full(shape, 2), torch.full(shape, -100)
        mask = torch.zeros(shape, dtype=torch.long)
        for row, (tokens, answer) in enumerate(part):
            padded[row, : len(tokens)] = torch.tensor(tokens)
            labels[row, answer : len(tokens)] = torch.tensor(tokens[answer:])
            mask[row, : len(tokens)] = 1
        yield {"input_ids": padded, "labels": labels, "attention_mask": mask}, int(mask.sum())


def peak_resident_bytes():
    """As lora tells its own; getrusage would count in what the parent had."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def peft_worker(name, form, folder, data, threads):
    """Prints what lora's worker prints, of PEFT."""
    import torch

    model = peft_model(folder, threads)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    model.train()
    has_rows = name.startswith("smart-home")
    run = torch.compile(model, dynamic=has_rows or None) if form == "compiled" else model
    steps = []
    for inputs, tokens in smart_home_batches(folder, data) if has_rows else random_batches():
        start = time.perf_counter()
        run(**inputs).loss.backward()
        if has_rows:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        steps.append({"tokens": tokens, "seconds": time.perf_counter() - start})
    print(json.dumps({"form": form, "steps": steps, "peakResidentBytes": peak_resident_bytes()}))


def measure(command):
    """What a worker prints, with the speed of its median step."""
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{process.stderr[-2000:]}")
    result = json.loads(process.stdout.strip().splitlines()[-1])
    rates = [step["tokens"] / step["seconds"] for step in result["steps"][1:]]
    return result | {"tokensPerSecond": statistics.median_low(rates)}


def measure_round(name, options, models):
    """One measurement of each side."""
    threads = ["--threads", str(options.threads)]
    ours = measure([BENCH, "--worker", name, "--base", options.base, "--data", options.data, *threads])
    folder = os.path.join(models, name.split("-")[-1])
    peft = [sys.executable, __file__, folder, options.data, "--worker", name, *threads]
    forms = [measure([*peft, "--form", form]) for form in WORK[name][0]]
    return {"lora": ours, "peft": max(forms, key=lambda form: form["tokensPerSecond"]), "forms": forms}


def summarize(name, rounds):
    """Medians over the rounds, and whether they meet the bars."""

    def middle(value):
        return statistics.median(value(one["lora"], one["peft"]) for one in rounds)

    _, least_ratio, most_share = WORK[name]
    speed, memory = "tokensPerSecond", "peakResidentBytes"
    result = {
        "work": name,
        "loraTokensPerSecond": middle(lambda lora, _: lora[speed]),
        "peftTokensPerSecond": middle(lambda _, peft: peft[speed]),
        "ratio": middle(lambda lora, peft: lora[speed] / peft[speed]),
        "leastRatio": least_ratio,
        "loraPeakBytes": middle(lambda lora, _: lora[memory]),
        "peftPeakBytes": middle(lambda _, peft: peft[memory]),
        "share": middle(lambda lora, peft: lora[memory] / peft[memory]),
        "mostShare": most_share,
        "rounds": rounds,
    }
    result["holds"] = result["ratio"] >= least_ratio and (most_share is None or result["share"] <= most_share)
    return result


def compare(options, models):
    names = [name for name in WORK if options.only in (None, name)]
    rounds = {name: [] for name in names}
    for number in range(options.rounds):
        for name in names:
            print(f"round {number + 1} of {options.rounds}: {name}", file=sys.stderr)
            rounds[name].append(measure_round(name, options, models))
    results = [summarize(name, rounds[name]) for name in names]
    print(
        f"{'work':16}{'lora tok/s':>12}{'PEFT tok/s':>12}{'ratio':>8}{'bar':>6}"
        f"{'lora MB':>10}{'PEFT MB':>10}{'share':>8}{'bar':>6}  PEFT's form"
    )
    for result in results:
        bar = "" if result["mostShare"] is None else f"{result['mostShare']:.0%}"
        print(
            f"{result['work']:16}{result['loraTokensPerSecond']:12.0f}{result['peftTokensPerSecond']:12.0f}"
            f"{result['ratio']:8.2f}{result['leastRatio']:6.2f}{result['loraPeakBytes'] / 1e6:10.0f}"
            f"{result['peftPeakBytes'] / 1e6:10.0f}{result['share']:8.1%}{bar:>6}"
            f"  {', '.join(sorted({one['peft']['form'] for one in result['rounds']}))}"
            f"{'' if result['holds'] else '  FAILS'}"
        )
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=2)
    return 0 if all(result["holds"] for result in results) else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base")
    parser.add_argument("data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=WORK)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", help="write everything measured to this file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--form", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker == "save":
        return save_models(options.base, options.data)
    if options.worker:
        return peft_worker(options.worker, options.form, options.base, options.data, options.threads)
    with tempfile.TemporaryDirectory() as models:
        save = [sys.executable, __file__, options.base, models, "--worker", "save"]
        subprocess.run(save, check=True, env=os.environ | {"TQDM_DISABLE": "1"})
        return compare(options, models)


if __name__ == "__main__":
    sys.exit(main())
