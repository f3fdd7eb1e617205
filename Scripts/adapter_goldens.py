#!/usr/bin/env python3
"""Writes small adapters as PEFT saves them, and the logits that PEFT gets from each directory in f32.

    pip install torch transformers peft safetensors
    python Scripts/adapter_goldens.py Tests/LoRAConversionTests/Goldens/families Tests/LoRAConversionTests/Goldens/adapters

The bases are the tiny checkpoints of `tiny_families_golden.py`. A and B are draws of a seeded generator. NAME.json
beside the directory NAME holds the base, the tokens, and the logits at some positions.
"""
import json
import math
import os
import shutil
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from oracle_base import MASK, fnv1a, splitmix64

SEED, TOKENS, POSITIONS = 31, 12, [4, 11]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# name: family, type of A and B, configuration
ADAPTERS = {
    "plain": ("llama", torch.float16, dict(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])),
    "rslora": ("llama", torch.float32, dict(
        r=3, lora_alpha=5, use_rslora=True, target_modules=["q_proj", "down_proj"])),
    "patterns": ("llama", torch.float32, dict(
        r=4, lora_alpha=8, target_modules=ALL, rank_pattern={"q_proj": 2, "layers.1.mlp.down_proj": 6},
        alpha_pattern={"k_proj": 3, "^model.layers.1.self_attn.q_proj": 5, "up_proj": 2.5})),
    "regex": ("llama", torch.bfloat16, dict(
        r=4, lora_alpha=8, target_modules=r"model\.layers\.\d+\.(self_attn\.(q|v)_proj|mlp\.up_proj)")),
    "all-linear": ("llama", torch.float32, dict(r=2, lora_alpha=6, target_modules="all-linear", lora_dropout=0.125)),
    "last-layer": ("llama", torch.float32, dict(
        r=4, lora_alpha=8, target_modules=["q_proj", "gate_proj"], layers_to_transform=[1])),
    "first-layer": ("llama", torch.float32, dict(
        r=4, lora_alpha=8, target_modules=["k_proj", "o_proj"], layers_to_transform=0, layers_pattern="layers")),
    "excluded": ("llama", torch.float32, dict(
        r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"], exclude_modules=["layers.0.self_attn.q_proj"])),
    "qwen": ("qwen3", torch.float32, dict(
        r=4, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "k_proj", "v_proj"],
        rank_pattern={"k_proj": 3}, alpha_pattern={"v_proj": 9})),
    "dora": ("llama", torch.float32, dict(r=4, lora_alpha=8, use_dora=True, target_modules=["q_proj", "v_proj"])),
}


def load(families, family):
    path = os.path.join(families, family)
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()


def save(model, folder, family, settings, dtype, generator):
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if not parameter.requires_grad:
                continue
            draws = torch.rand(parameter.shape, generator=generator) * 2 - 1
            if "magnitude" in name:
                values = parameter * (1 + 0.3 * draws)
            else:
                values = draws * (1 / math.sqrt(parameter.shape[1]) if "lora_A" in name else 0.2)
            parameter.data = values.to(dtype)
    model.save_pretrained(folder)
    os.remove(os.path.join(folder, "README.md"))
    path = os.path.join(folder, "adapter_config.json")
    with open(path, encoding="utf-8") as file:
        configuration = json.load(file)
    configuration["base_model_name_or_path"] = f"tiny/{family}"
    # PEFT writes what it has found in place of "all-linear", and sets in any order; it reads these as well.
    chosen = settings["target_modules"]
    configuration["target_modules"] = chosen if isinstance(chosen, str) else sorted(chosen)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        json.dump(configuration, file, indent=2, sort_keys=True)
        file.write("\n")


def logits(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].float()


def main():
    families, root = sys.argv[1:]
    for name, (family, dtype, settings) in ADAPTERS.items():
        folder = os.path.join(root, name)
        shutil.rmtree(folder, ignore_errors=True)
        generator = torch.Generator().manual_seed(SEED + fnv1a(name) % 1000)
        save(load(families, family), folder, family, settings, dtype, generator)
        base = load(families, family)
        tokens = [int(draw % 264) for draw in splitmix64(fnv1a(name) & MASK, TOKENS).tolist()]
        before = logits(base, tokens)
        after = logits(PeftModel.from_pretrained(base, folder).eval(), tokens)
        change, span = float((after - before).abs().max()), float(after.max() - after.min())
        assert change > 0.02 * span, f"{name} changes logits by {change} of {span}"
        expected = {
            "base": family, "tokens": tokens, "positions": POSITIONS,
            "logits": [[float(f"{float(value):.7g}") for value in after[position]] for position in POSITIONS],
        }
        with open(os.path.join(root, name + ".json"), "w", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(expected, separators=(",", ":")) + "\n")
        print(f"{name}: changes logits by {change:.3f} of {span:.3f}")


if __name__ == "__main__":
    main()
