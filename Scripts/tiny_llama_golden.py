#!/usr/bin/env python3
"""Writes the golden of tiny llama models: logits, loss and LoRA gradients of transformers and PEFT in f32.

    pip install torch transformers peft
    python Scripts/tiny_llama_golden.py Tests/LoRAModelTests/Goldens/tiny_llama.json

All weights are formulas of their Hugging Face names (`oracle_base.uniform`), so that a test builds the same models without
PyTorch. A matrix is uniform in ±2/sqrt(in), the embedding in ±1, a norm 1 plus uniform in ±0.25, A in ±1/sqrt(in), B in
±B_BOUND. Tokens are SplitMix64 draws modulo the vocabulary. Of each gradient the golden keeps the norm and projections on
seeded random signs.
"""
import json
import math
import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from oracle_base import fnv1a, signs, splitmix64, uniform, MASK

SEED_WEIGHTS, SEED_ADAPTER, SEED_SIGNS, B_BOUND = 0, 1, 2, 0.1
RANK, ALPHA, PROJECTIONS, SAMPLES, VOCABULARY = 4, 8, 6, 6, 160
# (tokens, first supervised token) of each example
EXAMPLES = [(24, 5), (40, 20), (9, 1)]
VARIANTS = {
    "tied": dict(tie_word_embeddings=True, num_key_value_heads=2),
    "llama3": dict(tie_word_embeddings=False, num_key_value_heads=1, rope_parameters={
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}),
    "linear": dict(tie_word_embeddings=False, num_key_value_heads=4, rope_parameters={
        "rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}),
}


def short(value):
    return float(f"{float(value):.7g}")


def make(options):
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        head_dim=16, max_position_embeddings=512, rms_norm_eps=1e-5, attention_bias=False, mlp_bias=False,
        attn_implementation="eager", **options)
    model = LlamaForCausalLM(config).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            shape = tuple(parameter.shape)
            if parameter.dim() == 1:
                parameter.copy_(1 + uniform(name, SEED_WEIGHTS, shape, 0.25))
            else:
                bound = 1.0 if "embed_tokens" in name else 2 / math.sqrt(shape[1])
                parameter.copy_(uniform(name, SEED_WEIGHTS, shape, bound))
    return model


def examples():
    for index, (count, start) in enumerate(EXAMPLES):
        draws = splitmix64(fnv1a(f"tokens {index}") & MASK, count)
        yield [int(draw % VOCABULARY) for draw in draws.tolist()], start


def variant(options):
    model = make(options)
    frequencies = model.model.rotary_emb.inv_freq.double().tolist()
    plain = [10000.0 ** (-index / len(frequencies)) for index in range(len(frequencies))]
    model = get_peft_model(model, LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"))
    trained = {name.replace(".default", ""): p for name, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in trained.items():
            shape = tuple(parameter.shape)
            bound = 1 / math.sqrt(shape[1]) if "lora_A" in name else B_BOUND
            parameter.copy_(uniform(name, SEED_ADAPTER, shape, bound))
    total, count, logits = 0, 0, []
    for tokens, start in examples():
        ids = torch.tensor([tokens])
        output = model(ids).logits[0]
        logits.append(output.detach())
        total = total + torch.nn.functional.cross_entropy(output[start - 1:-1], ids[0, start:], reduction="sum")
        count += len(tokens) - start
    loss = total / count
    loss.backward()
    gradients = {}
    for name, parameter in sorted(trained.items()):
        flat = parameter.grad.flatten().double().numpy()
        products = [flat @ signs(name, SEED_SIGNS + (index << 32), flat.size) for index in range(PROJECTIONS)]
        gradients[name] = [short(math.sqrt(flat @ flat))] + [short(product) for product in products]
    first = logits[1]
    positions = []
    for row in range(first.shape[0]):
        ids = [int(draw % VOCABULARY) for draw in splitmix64(row, SAMPLES).tolist()]
        positions.append([short(first[row].double().logsumexp(0))] + [short(first[row, id]) for id in ids])
    return {
        "ropeFactors": [short(a / b) for a, b in zip(plain, frequencies)],
        "range": short(first.max() - first.min()), "loss": short(loss.detach()), "positions": positions, "gradients": gradients,
    }


def main():
    torch.manual_seed(0)
    lines = []
    for name, options in VARIANTS.items():
        result = variant(options)
        print(name, result["loss"], result["range"], result["ropeFactors"])
        gradients = result.pop("gradients")
        head = json.dumps(result, separators=(",", ":"))[:-1]
        body = ",\n".join(f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}"
                          for key, value in gradients.items())
        lines.append(f'{json.dumps(name)}: {head},"gradients":{{\n{body}}}}}')
    with open(sys.argv[1], "w", encoding="utf-8", newline="\n") as file:
        file.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
