#!/usr/bin/env python3
"""Kills training runs at random moments, resumes them, and checks that they give the adapter of a run never stopped,
byte for byte, and a log without a missing or a doubled step.

Run with:
    python3 Scripts/kill_training.py --base models/base.bin --data datasets/smart-home [--lora .build/release/lora]
        [--runs 20] [--steps 30]

Half of the moments are drawn from the whole time that a run takes; the others wait for a checkpoint that is being
written and come a few milliseconds later. Each run is killed up to three times.
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time


def rows(source: pathlib.Path, target: pathlib.Path, count: int) -> None:
    with open(source) as lines, open(target, "w") as output:
        output.writelines(line for line, _ in zip(lines, range(count)))


def is_writing(checkpoints: pathlib.Path) -> bool:
    try:
        return any(entry.name.endswith(".tmp") for entry in os.scandir(checkpoints))
    except FileNotFoundError:
        return False


def kill(child: subprocess.Popen, checkpoints: pathlib.Path, duration: float, waits: bool) -> bool:
    """Kills `child` and says whether a checkpoint was being written."""
    if waits:
        due = time.monotonic() + random.uniform(0, duration)
        while child.poll() is None and not (time.monotonic() > due and is_writing(checkpoints)):
            time.sleep(0.0005)
        time.sleep(random.uniform(0, 0.03))
    else:
        due = time.monotonic() + random.uniform(0, 1.1 * duration)
        while child.poll() is None and time.monotonic() < due:
            time.sleep(0.002)
    child.kill()
    return child.wait() != 0 and is_writing(checkpoints)


def steps(log: pathlib.Path) -> list[int]:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line["step"] for line in lines if "valid_loss" not in line]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--lora", default=".build/release/lora")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        data = root / "data"
        data.mkdir()
        rows(pathlib.Path(options.data) / "train.jsonl", data / "train.jsonl", 50)
        rows(pathlib.Path(options.data) / "valid.jsonl", data / "valid.jsonl", 10)

        def command(output: pathlib.Path, *more: str) -> list[str]:
            return [
                options.lora, "train", "--base", options.base, "--data", str(data), "--output", str(output),
                "--steps", str(options.steps), "--batch-size", "4", "--dropout", "0.1", "--weight-decay", "0.01",
                "--schedule", "cosine", "--learning-rate", "2e-3", "--eval-every", "7", "--log", f"{output}.jsonl",
                "--quiet", *more,
            ]  # fmt: skip

        # The file's name is the adapter's domain, so all have the same one.
        whole = root / "whole" / "x.lora"
        whole.parent.mkdir()
        start = time.monotonic()
        subprocess.run(command(whole), check=True, env=environment, stdout=subprocess.DEVNULL)
        duration = time.monotonic() - start
        print(f"a run of {options.steps} steps takes {duration:.1f} s", flush=True)
        kills = writing = unbegun = 0
        for index in range(options.runs):
            output = root / str(index) / "x.lora"
            output.parent.mkdir()
            checkpoints = output.with_name("x.lora.checkpoints")
            saving = ("--save-every", str(random.choice([1, 2, 3, 5])))
            for attempt in range(4):
                has_any = any(checkpoints.glob("step-*"))
                unbegun += attempt > 0 and not has_any
                resuming = ("--resume", str(checkpoints)) if has_any else ()
                child = subprocess.Popen(
                    command(output, *saving, *resuming), env=environment, stdout=subprocess.DEVNULL)
                if attempt < 3:
                    was_writing = kill(child, checkpoints, duration, waits=index % 2 == 1)
                    writing += was_writing
                    if child.returncode == -9:
                        kills += 1
                        continue
                if child.wait() != 0:
                    sys.exit(f"run {index}: ended with {child.returncode}")
                break
            if output.read_bytes() != whole.read_bytes():
                sys.exit(f"run {index}: another adapter than that of a run never stopped")
            if (found := steps(output.with_name("x.lora.jsonl"))) != list(range(1, options.steps + 1)):
                sys.exit(f"run {index}: the log has the steps {found}")
            if checkpoints.exists():
                sys.exit(f"run {index}: left its checkpoints")
            print(f"run {index}: the same bytes", flush=True)
        print(
            f"{options.runs} runs, {kills} kills, {writing} while a checkpoint was written, {unbegun} before the first "
            "checkpoint: all adapters are byte-identical, all logs have every step once"
        )


if __name__ == "__main__":
    main()
