#!/usr/bin/env python3
"""Writes the golden of the learning-rate schedules: transformers' own values for a peak of 1.

    pip install torch transformers
    python Scripts/schedule_golden.py Tests/LoRATrainingTests/Goldens/schedules.json
"""
import json
import sys

import torch
from transformers import (
    get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup)

CASES = [(0, 1), (0, 7), (1, 1), (1, 20), (3, 10), (8, 250), (10, 10)]


def rates(course, warmup, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    if course == "constant":
        schedule = get_constant_schedule_with_warmup(optimizer, warmup)
    elif course == "cosine":
        schedule = get_cosine_schedule_with_warmup(optimizer, warmup, steps)
    else:
        schedule = get_linear_schedule_with_warmup(optimizer, warmup, steps)
    values = []
    for _ in range(steps):
        values.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return values


def main():
    cases = [
        {"course": course, "warmupSteps": warmup, "stepCount": steps, "rates": rates(course, warmup, steps)}
        for course in ("linear", "cosine", "constant") for warmup, steps in CASES if steps < 100 or course != "constant"
    ]
    with open(sys.argv[1], "w", encoding="utf-8", newline="\n") as file:
        file.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
