#!/usr/bin/env python3
"""Writes small adapters as mlx-lm saves them, and the logits that it gets with them in f32.

    pip install "mlx[cpu]" mlx-lm
    python Scripts/mlx_goldens.py Tests/LoRAConversionTests/Goldens/families Tests/LoRAConversionTests/Goldens/adapters

Directories and NAME.json are as those of `adapter_goldens.py`. The base is the tiny Qwen3 checkpoint.
"""
import json
import os
import shutil
import sys
from pathlib import Path

import mlx.core as mx
import numpy
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import load_model, save_config

SEED, FAMILY, TOKENS, POSITIONS = 41, "qwen3", 12, [4, 11]
# name: blocks from the last one on, parameters
ADAPTERS = {
    "mlx-keys": (1, {"rank": 4, "scale": 3.5, "dropout": 0.0, "keys": ["self_attn.q_proj", "mlp.down_proj"]}),
    "mlx-all": (2, {"rank": 2, "scale": 2.0, "dropout": 0.125}),
}


def main():
    families, root = sys.argv[1:]
    for name, (blocks, parameters) in ADAPTERS.items():
        mx.random.seed(SEED)
        model, _ = load_model(Path(families, FAMILY))
        model.set_dtype(mx.float32)
        model.freeze()
        tokens = mx.random.randint(0, 264, (TOKENS,)).tolist()
        before = numpy.array(model(mx.array([tokens]))[0])
        linear_to_lora_layers(model, blocks, parameters)
        tensors = {
            key: mx.random.uniform(-0.2, 0.2, value.shape)
            for key, value in sorted(tree_flatten(model.trainable_parameters()))}
        model.load_weights(list(tensors.items()), strict=False)
        model.eval()
        after = numpy.array(model(mx.array([tokens]))[0])
        change, span = abs(after - before).max(), after.max() - after.min()
        assert change > 0.02 * span, f"{name} changes logits by {change} of {span}"
        folder = Path(root, name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        mx.save_safetensors(str(folder / "adapters.safetensors"), tensors)
        save_config(
            {"fine_tune_type": "lora", "lora_parameters": parameters, "model": f"tiny/{FAMILY}", "num_layers": blocks},
            folder / "adapter_config.json")
        expected = {
            "base": FAMILY, "tokens": tokens, "positions": POSITIONS,
            "logits": [[float(f"{value:.7g}") for value in after[position].tolist()] for position in POSITIONS],
        }
        with open(os.path.join(root, name + ".json"), "w", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(expected, separators=(",", ":")) + "\n")
        print(f"{name}: changes logits by {change:.3f} of {span:.3f}")


if __name__ == "__main__":
    main()
