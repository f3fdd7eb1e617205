#!/usr/bin/env python3
"""Has TensorBoard's own reader list the scalars that `lora train --tensorboard DIR` wrote.

    pip install tensorboard
    python3 Scripts/tensorboard_check.py DIR [--log run.jsonl]

Prints a line per scalar: its tag, how many steps it has, the first and the last one, and the last value. Exits 1 when a
tag that every run has is missing, when a step is there twice, or when a value is not the one in the run's log.
"""
import argparse
import json
import math
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

EXPECTED = ("train/loss", "train/learning_rate", "train/grad_norm", "train/tokens_per_second", "grad_norm/block_0")
LOGGED = {"train/loss": "loss", "train/learning_rate": "learning_rate", "train/grad_norm": "grad_norm",
          "valid/loss": "valid_loss"}


def logged(path, key):
    """Step to value, as the run's log has them."""
    with open(path, encoding="utf-8") as lines:
        entries = [json.loads(line) for line in lines]
    return {entry["step"]: entry[key] for entry in entries if key in entry}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory")
    parser.add_argument("--log")
    options = parser.parse_args()
    events = EventAccumulator(options.directory, size_guidance={"scalars": 0}).Reload()
    tags = events.Tags()["scalars"]
    problems = [f"no scalar {tag}" for tag in EXPECTED if tag not in tags]
    for tag in sorted(tags):
        scalars = events.Scalars(tag)
        steps = [scalar.step for scalar in scalars]
        print(f"{tag:32} {len(steps):6} steps, {steps[0]} to {steps[-1]}, last {scalars[-1].value:.6g}")
        if steps != sorted(set(steps)):
            problems.append(f"{tag}: steps twice or out of order")
        if options.log and tag in LOGGED:
            expected = logged(options.log, LOGGED[tag])
            actual = {scalar.step: scalar.value for scalar in scalars}
            if actual.keys() != expected.keys():
                problems.append(f"{tag}: {len(actual)} steps, the log has {len(expected)}")
            elif not all(math.isclose(actual[step], expected[step], rel_tol=1e-6) for step in actual):
                problems.append(f"{tag}: values other than the log's")
    for problem in problems:
        print("FAILS ", problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
