#!/usr/bin/env python3
"""Writes the golden of LoRA training on smart-home: 20 losses and the first gradients of PyTorch + PEFT in f32.

    pip install torch transformers peft gguf sentencepiece safetensors
    python Scripts/peft_golden.py models/base.bin datasets/smart-home/train.jsonl \\
        Tests/LoRATrainingTests/Goldens/peft_smart_home.json [FULL_DIRECTORY]

The adapters that training starts from are formulas (`initial`), so that a test builds them without PyTorch. Tensors
have PEFT's names and PEFT's order of rows: in a GGUF base of the llama architecture the rows of q and k are permuted.
Losses start from B = 0. Gradients start from a small B, because with B = 0 every gradient of A is zero. Of each
gradient the golden keeps its norm, some entries, and projections on seeded random signs: the mean square of what two
gradients' projections differ by estimates the square of the distance between them. FULL_DIRECTORY gets all of it.
"""
import json
import math
import os
import sys

import numpy
import torch
from peft import LoraConfig, get_peft_model
from transformers import get_linear_schedule_with_warmup

from oracle_base import load_base, signs, splitmix64, fnv1a, uniform, MASK

STEPS, BATCH, RANK, ALPHA, LEARNING_RATE, WARMUP = 20, 16, 8, 16, 2e-3, 0.03
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
SEED_INITIAL, SEED_SIGNS, SEED_ENTRIES, B_BOUND = 0, 1, 2, 0.02
PROJECTIONS, ENTRIES = 16, 8


def encode(tokenizer, messages):
    """(ids, index of the first supervised token): the answer with its end-of-turn token and newline is supervised."""
    prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    whole = prompt + messages[-1]["content"] + "<|im_end|>\n"
    assert whole == tokenizer.apply_chat_template(messages, tokenize=False)
    ids = tokenizer(whole, add_special_tokens=False).input_ids
    start = len(tokenizer(prompt, add_special_tokens=False).input_ids)
    return ids, start


def padded(rows):
    length = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), length), 2)
    labels = torch.full((len(rows), length), -100)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for index, (tokens, start) in enumerate(rows):
        ids[index, :len(tokens)] = torch.tensor(tokens)
        labels[index, start:len(tokens)] = torch.tensor(tokens[start:])
        mask[index, :len(tokens)] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def adapter_tensors(model):
    """PEFT's saved names, sorted, with their parameters."""
    named = {name.replace(".default", ""): p for name, p in model.named_parameters() if p.requires_grad}
    return dict(sorted(named.items()))


def initialise(model, zero_b):
    with torch.no_grad():
        for name, parameter in adapter_tensors(model).items():
            if "lora_A" in name:
                bound = 1 / math.sqrt(parameter.shape[1])
                parameter.copy_(uniform(name, SEED_INITIAL, tuple(parameter.shape), bound))
            elif zero_b:
                parameter.zero_()
            else:
                parameter.copy_(uniform(name, SEED_INITIAL, tuple(parameter.shape), B_BOUND))


def summary(name, gradient):
    flat = gradient.flatten().double().numpy()
    positions = splitmix64((fnv1a(name) + SEED_ENTRIES) & MASK, ENTRIES) % numpy.uint64(flat.size)
    projections = [float(flat @ signs(name, SEED_SIGNS + (index << 32), flat.size)) for index in range(PROJECTIONS)]
    return {
        "norm": short(numpy.linalg.norm(flat)),
        "projections": [short(value) for value in projections],
        "entries": [[int(position), short(flat[int(position)])] for position in positions],
    }


def short(value):
    return float(f"{value:.7g}")


def main():
    base, data, output = sys.argv[1:4]
    full = sys.argv[4] if len(sys.argv) > 4 else None
    torch.manual_seed(0)
    torch.set_num_threads(2)
    model, tokenizer = load_base(base)
    with open(data, encoding="utf-8") as file:
        rows = [encode(tokenizer, json.loads(line)["messages"]) for line in list(file)[:STEPS * BATCH]]
    batches = [rows[i:i + BATCH] for i in range(0, len(rows), BATCH)]
    model = get_peft_model(model, LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=TARGETS, task_type="CAUSAL_LM"))
    model.train()

    initialise(model, zero_b=False)
    some = list(adapter_tensors(model).items())[::59]
    initial = {name: parameter.detach().flatten()[:4].double().tolist() for name, parameter in some}
    first = model(**padded(batches[0])).loss
    first.backward()
    gradients = {name: p.grad.detach().clone() for name, p in adapter_tensors(model).items()}
    model.zero_grad()
    if full:
        save_full(full, model, gradients)

    initialise(model, zero_b=True)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    warmup = math.ceil(WARMUP * STEPS)
    schedule = get_linear_schedule_with_warmup(optimizer, warmup, STEPS)
    steps = []
    for batch in batches:
        rate = optimizer.param_groups[0]["lr"]
        loss = model(**padded(batch)).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        steps.append({
            "loss": short(loss.item()), "learningRate": rate, "gradientNorm": short(norm.item()),
            "tokens": sum(len(ids) for ids, _ in batch), "supervised": sum(len(ids) - start for ids, start in batch),
        })
        print(len(steps), steps[-1], flush=True)

    golden = {
        "madeBy": "Scripts/peft_golden.py", "torch": torch.__version__,
        "rank": RANK, "alpha": ALPHA, "targets": TARGETS, "batchSize": BATCH, "steps": STEPS,
        "learningRate": LEARNING_RATE, "schedule": "linear", "warmup": WARMUP, "warmupSteps": warmup,
        "maxGradientNorm": 1.0, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weightDecay": 0.0,
        "seeds": {"initial": SEED_INITIAL, "signs": SEED_SIGNS, "entries": SEED_ENTRIES}, "bBound": B_BOUND,
        "initialValues": initial,
        "firstBatch": [{"ids": ids, "supervisedFrom": start} for ids, start in batches[0]],
        "run": steps,
        "gradientLoss": short(first.item()),
        "gradients": {name: summary(name, gradient) for name, gradient in gradients.items()},
    }
    with open(output, "w", encoding="utf-8", newline="\n") as file:
        file.write(layout(golden))


def layout(golden):
    """One line per step, example and tensor, so that a changed golden can be read as a diff."""
    gradients = golden.pop("gradients")
    run, first = golden.pop("run"), golden.pop("firstBatch")
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items()]
    for key, items in (("firstBatch", first), ("run", run)):
        lines.append(f"{json.dumps(key)}: [\n" + ",\n".join(compact(item) for item in items) + "\n]")
    body = ",\n".join(f"{json.dumps(name)}: {compact(value)}" for name, value in gradients.items())
    return "{\n" + ",\n".join(lines + [f'"gradients": {{\n{body}\n}}']) + "\n}\n"


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def save_full(directory, model, gradients):
    from safetensors.torch import save_file
    os.makedirs(directory, exist_ok=True)
    save_file(gradients, os.path.join(directory, "gradients.safetensors"))
    model.save_pretrained(os.path.join(directory, "adapter_small_b"))
    initialise(model, zero_b=True)
    model.save_pretrained(os.path.join(directory, "adapter_zero_b"))


if __name__ == "__main__":
    main()
