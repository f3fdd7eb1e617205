#!/usr/bin/env python3
"""Writes tiny random checkpoints of each model family, and what transformers and PEFT make of them in f32.

    pip install torch transformers peft tokenizers
    python Scripts/tiny_families_golden.py Tests/LoRAConversionTests/Goldens/families

A family's directory is what `save_pretrained` writes: config.json, safetensors, tokenizer.json. Weights are draws of a
seeded generator, rounded to the stored type before anything is computed. `expected.json` beside it holds, for a LoRA of
rank 4 on every projection whose values are formulas of their names (`oracle_base.uniform`), logits of one example, the
loss of three, and of each gradient the norm and projections on seeded random signs.
"""
import json
import math
import os
import shutil
import sys

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM, LlamaConfig, MistralConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen3Config)

from oracle_base import fnv1a, signs, splitmix64, uniform, MASK

SEED, SEED_ADAPTER, SEED_SIGNS, B_BOUND = 20, 1, 2, 0.1
RANK, ALPHA, PROJECTIONS, SAMPLES = 4, 8, 6, 6
# (tokens, first supervised token) of each example
EXAMPLES = [(24, 5), (40, 20), (9, 1)]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
COMMON = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=256,
              bos_token_id=1, eos_token_id=2, pad_token_id=0)
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}
# name: configuration, stored type, bytes per shard
FAMILIES = {
    "llama": (LlamaConfig(num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-5, tie_word_embeddings=True,
                          attention_bias=True, rope_parameters=LLAMA3, **COMMON), torch.bfloat16, "24KB"),
    "mistral": (MistralConfig(num_key_value_heads=1, head_dim=16, rms_norm_eps=1e-5, tie_word_embeddings=False,
                              sliding_window=128, **COMMON), torch.float16, "1MB"),
    "qwen2": (Qwen2Config(num_key_value_heads=2, tie_word_embeddings=True, rope_parameters={
        "rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}, **COMMON), torch.float32, "1MB"),
    "qwen3": (Qwen3Config(num_key_value_heads=2, head_dim=24, tie_word_embeddings=False, rope_parameters={
        "rope_type": "default", "rope_theta": 1000000.0}, **COMMON), torch.bfloat16, "1MB"),
}


def short(value):
    return float(f"{float(value):.7g}")


def make_tokenizer():
    """Byte-level BPE of 264 tokens."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("o", "w"), ("Ġ", "the"), ("i", "n")]
    tokens = special + alphabet + [first + second for first, second in merges]
    tokenizer = Tokenizer(models.BPE(vocab={token: id for id, token in enumerate(tokens)}, merges=merges))
    # As SmolLM has it.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=True, trim_offsets=True, use_regex=True)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=special[1], eos_token=special[2], pad_token=special[0],
        unk_token=special[0], chat_template=TEMPLATE, clean_up_tokenization_spaces=False)


def make(config, dtype):
    """A model of f32 weights that the stored type holds."""
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.rand(parameter.shape, generator=generator) * 2 - 1
            if name.endswith("norm.weight"):
                values = 1 + 0.25 * values
            elif name.endswith("bias"):
                values = 0.3 * values
            elif "embed_tokens" not in name:
                values *= 2 / math.sqrt(parameter.shape[1])
            parameter.copy_(values.to(dtype).float())
    return model


def examples(vocabulary):
    for index, (count, start) in enumerate(EXAMPLES):
        draws = splitmix64(fnv1a(f"tokens {index}") & MASK, count)
        yield [int(draw % vocabulary) for draw in draws.tolist()], start


def expect(model, vocabulary):
    model = get_peft_model(model, LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"))
    trained = {name.replace(".default", ""): p for name, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in trained.items():
            shape = tuple(parameter.shape)
            bound = 1 / math.sqrt(shape[1]) if "lora_A" in name else B_BOUND
            parameter.copy_(uniform(name, SEED_ADAPTER, shape, bound))
    total, count, logits = 0, 0, []
    for tokens, start in examples(vocabulary):
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
    second = logits[1]
    positions = []
    for row in range(second.shape[0]):
        ids = [int(draw % vocabulary) for draw in splitmix64(row, SAMPLES).tolist()]
        positions.append([short(second[row].double().logsumexp(0))] + [short(second[row, id]) for id in ids])
    return {
        "range": short(second.max() - second.min()), "loss": short(loss.detach()), "positions": positions,
        "gradients": gradients,
    }


def main():
    torch.manual_seed(SEED)
    root = sys.argv[1]
    tokenizer = make_tokenizer()
    for name, (config, dtype, shard) in FAMILIES.items():
        folder = os.path.join(root, name)
        shutil.rmtree(folder, ignore_errors=True)
        config.vocab_size = len(tokenizer)
        model = make(config, dtype)
        expected = expect(make(config, dtype), config.vocab_size)
        model.to(dtype).save_pretrained(folder, max_shard_size=shard)
        tokenizer.save_pretrained(folder)
        print(name, expected["loss"], expected["range"], os.listdir(folder))
        gradients = expected.pop("gradients")
        head = json.dumps(expected, separators=(",", ":"))[:-1]
        body = ",\n".join(f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}"
                          for key, value in gradients.items())
        with open(os.path.join(folder, "expected.json"), "w", encoding="utf-8", newline="\n") as file:
            file.write(f'{head},"gradients":{{\n{body}}}}}\n')


if __name__ == "__main__":
    main()
