#!/usr/bin/env python3
"""Writes the goldens of DoRA (arXiv 2402.09353) by PEFT in f32: tiny models, and some steps on smart-home.

    pip install torch transformers peft gguf sentencepiece safetensors
    python Scripts/dora_golden.py models/base.bin datasets/smart-home/train.jsonl \\
        Tests/LoRAModelTests/Goldens/tiny_dora.json Tests/LoRATrainingTests/Goldens/peft_dora.json

Models, adapters and examples are those of `tiny_llama_golden.py` and `peft_golden.py`. Magnitudes are PEFT's initial
ones with B zero, the norms of W's rows; those of the tiny models are then multiplied with 1 plus uniform in ±0.25.
"""
import json
import math
import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import get_linear_schedule_with_warmup

import peft_golden
import tiny_llama_golden as tiny
from oracle_base import load_base, signs, splitmix64, uniform

VARIANTS = {
    "tied": dict(rsLoRA=False, options=tiny.VARIANTS["tied"]),
    "rslora": dict(rsLoRA=True, options=tiny.VARIANTS["linear"]),
}
M_BOUND, PROJECTIONS, STEPS, BATCH = 0.25, 4, 5, 2


def short(value):
    return float(f"{float(value):.7g}")


def saved_name(name):
    return name.replace(".default", "").replace("lora_magnitude_vector.weight", "lora_magnitude_vector")


def trained(model):
    """PEFT's saved names, sorted, with their parameters."""
    return dict(sorted((saved_name(name), p) for name, p in model.named_parameters() if p.requires_grad))


def fill(parameters, seed, bound):
    with torch.no_grad():
        for name, parameter in parameters.items():
            shape = tuple(parameter.shape)
            if "lora_magnitude" in name:
                parameter.mul_(1 + uniform(name, seed, shape, M_BOUND))
            else:
                parameter.copy_(uniform(name, seed, shape, 1 / math.sqrt(shape[1]) if "lora_A" in name else bound))


def variant(rsLoRA, options):
    model = get_peft_model(tiny.make(options), LoraConfig(
        r=tiny.RANK, lora_alpha=tiny.ALPHA, use_rslora=rsLoRA, use_dora=True, target_modules="all-linear",
        task_type="CAUSAL_LM"))
    parameters = trained(model)
    fill(parameters, tiny.SEED_ADAPTER, tiny.B_BOUND)
    total, count, logits = 0, 0, []
    for tokens, start in tiny.examples():
        ids = torch.tensor([tokens])
        output = model(ids).logits[0]
        logits.append(output.detach())
        total = total + torch.nn.functional.cross_entropy(output[start - 1:-1], ids[0, start:], reduction="sum")
        count += len(tokens) - start
    loss = total / count
    loss.backward()
    gradients = {}
    for name, parameter in parameters.items():
        flat = parameter.grad.flatten().double().numpy()
        products = [flat @ signs(name, tiny.SEED_SIGNS + (index << 32), flat.size) for index in range(PROJECTIONS)]
        gradients[name] = [short(math.sqrt(flat @ flat))] + [short(product) for product in products]
    first, positions = logits[1], []
    for row in range(first.shape[0]):
        ids = [int(draw % tiny.VOCABULARY) for draw in splitmix64(row, tiny.SAMPLES).tolist()]
        positions.append([short(first[row].double().logsumexp(0))] + [short(first[row, id]) for id in ids])
    return {"range": short(first.max() - first.min()), "loss": short(loss.detach()), "positions": positions,
            "gradients": gradients}


def run(base, data):
    golden = peft_golden
    model, tokenizer = load_base(base)
    with open(data, encoding="utf-8") as file:
        rows = [golden.encode(tokenizer, json.loads(line)["messages"]) for line in list(file)[:STEPS * BATCH]]
    model = get_peft_model(model, LoraConfig(
        r=golden.RANK, lora_alpha=golden.ALPHA, use_dora=True, target_modules=golden.TARGETS, task_type="CAUSAL_LM"))
    model.train()
    parameters = trained(model)
    magnitudes = {name: [short(v) for v in p.detach()[:4]] for name, p in parameters.items() if "magnitude" in name}
    fill({name: p for name, p in parameters.items() if "magnitude" not in name}, golden.SEED_INITIAL, 0.0)
    optimizer = torch.optim.AdamW(parameters.values(), lr=golden.LEARNING_RATE, weight_decay=0.01)
    schedule = get_linear_schedule_with_warmup(optimizer, math.ceil(golden.WARMUP * STEPS), STEPS)
    steps = []
    for start in range(0, len(rows), BATCH):
        loss = model(**golden.padded(rows[start:start + BATCH])).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        steps.append({"loss": short(loss.detach()), "gradientNorm": short(norm)})
        print(len(steps), steps[-1], flush=True)
    return {
        "rank": golden.RANK, "alpha": golden.ALPHA, "targets": golden.TARGETS, "batchSize": BATCH,
        "learningRate": golden.LEARNING_RATE, "warmup": golden.WARMUP, "weightDecay": 0.01, "run": steps,
        "magnitudes": dict(list(magnitudes.items())[::17]),
    }


def main():
    base, data, tiny_output, run_output = sys.argv[1:]
    torch.manual_seed(0)
    torch.set_num_threads(2)
    lines = []
    for name, options in VARIANTS.items():
        result = variant(**options)
        print(name, result["loss"], result["range"])
        gradients = result.pop("gradients")
        body = ",\n".join(f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}"
                          for key, value in gradients.items())
        lines.append(f'{json.dumps(name)}: {json.dumps(result, separators=(",", ":"))[:-1]},"gradients":{{\n{body}}}}}')
    with open(tiny_output, "w", encoding="utf-8", newline="\n") as file:
        file.write("{\n" + ",\n".join(lines) + "\n}\n")
    with open(run_output, "w", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(run(base, data), indent=1) + "\n")


if __name__ == "__main__":
    main()
