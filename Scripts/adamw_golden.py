#!/usr/bin/env python3
"""Writes the golden of AdamW: ten steps of torch.optim.AdamW with clipping and a changing learning rate.

    pip install torch
    python Scripts/adamw_golden.py Tests/LoRATrainingTests/Goldens/adamw.json

Parameters and the gradients of step t are formulas: `oracle_base.uniform("parameters" or f"gradients {t}", 0, …)`.
"""
import json
import sys

import torch

from oracle_base import uniform

COUNT, STEPS, MAXIMUM_NORM = 70, 10, 3.0


def run(weight_decay):
    parameter = torch.nn.Parameter(uniform("parameters", 0, (COUNT,), 1.0))
    optimizer = torch.optim.AdamW([parameter], lr=1.0, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay)
    for step in range(STEPS):
        # Every second gradient is longer than what clipping lets through.
        parameter.grad = uniform(f"gradients {step}", 0, (COUNT,), 1.0 if step % 2 else 0.1)
        torch.nn.utils.clip_grad_norm_([parameter], MAXIMUM_NORM)
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / STEPS)
        optimizer.step()
    return [float(f"{value:.8g}") for value in parameter.detach().tolist()]


def main():
    golden = {"count": COUNT, "steps": STEPS, "maximumNorm": MAXIMUM_NORM,
              "weightDecays": [0.0, 0.1], "parameters": [run(0.0), run(0.1)]}
    with open(sys.argv[1], "w", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
