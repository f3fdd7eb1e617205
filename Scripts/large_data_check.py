#!/usr/bin/env python3
"""Trains some steps on a JSONL file of any size, twice, and prints what memory and time it takes.

    python3 Scripts/large_data_check.py .build/release/lora models/base.bin [--gib 2] [--steps 3] [--directory DIR]

The file repeats the rows of datasets/smart-home with a number in each, so that no two are the same. The first start
makes the token cache, in a directory of its own; the second has to begin within 2 seconds of it. What counts as the
beginning is the line that says how many parameters are trained: data, base and memory are ready then.
"""
import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "datasets", "smart-home", "train.jsonl")


def write_rows(path, size):
    """Repeats the rows with a number until the file has `size` bytes; returns the number of rows."""
    with open(DATA, encoding="utf-8") as file:
        rows = [json.loads(line)["messages"] for line in file]
    count = written = 0
    with open(path, "wb", buffering=1 << 22) as file:
        while written < size:
            lines = []
            for question, answer in rows:
                count += 1
                content = f"{question['content']} ({count})"
                messages = [{"role": "user", "content": content}, answer]
                lines.append(json.dumps({"messages": messages}, ensure_ascii=False, separators=(",", ":")) + "\n")
            block = "".join(lines).encode()
            file.write(block)
            written += len(block)
    return count


def peak_kilobytes(process):
    with open(f"/proc/{process}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))


def train(arguments, environment):
    """(seconds to the beginning, seconds in all, peak memory in MB, summary)."""
    start = time.monotonic()
    begun = None
    peak = 0
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(arguments, env=environment, stdout=output, stderr=errors)
        while process.poll() is None:
            try:
                peak = max(peak, peak_kilobytes(process.pid))
            except (OSError, StopIteration):
                pass
            if begun is None:
                errors.seek(0)
                if b"training " in errors.read():
                    begun = time.monotonic() - start
            time.sleep(0.02)
        output.seek(0)
        errors.seek(0)
        if process.returncode != 0:
            raise SystemExit(errors.read().decode())
        return begun, time.monotonic() - start, peak * 1.024 / 1e3, json.loads(output.read())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("lora")
    parser.add_argument("base")
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--directory", help="where file and cache go for the time (default: the temporary directory)")
    options = parser.parse_args()
    directory = tempfile.mkdtemp(dir=options.directory)
    try:
        data = os.path.join(directory, "rows.jsonl")
        rows = write_rows(data, int(options.gib * (1 << 30)))
        print(f"{rows} rows, {os.path.getsize(data) / (1 << 30):.2f} GiB", flush=True)
        # A file of this very moment is not taken on trust.
        time.sleep(2)
        environment = {**os.environ, "XDG_CACHE_HOME": os.path.join(directory, "cache")}
        arguments = [options.lora, "train", "--base", options.base, "--data", data, "--output",
                     os.path.join(directory, "x.lora"), "--steps", str(options.steps), "--no-shuffle", "--json"]
        losses = []
        for name in ("first", "second"):
            begun, seconds, peak, summary = train(arguments, environment)
            losses.append(summary["losses"])
            print(f"{name} start: begins after {begun:.2f} s, ends after {seconds:.2f} s, peak memory {peak:.0f} MB",
                  flush=True)
        cache = os.path.join(directory, "cache", "lora", "tokens")
        size = sum(os.path.getsize(os.path.join(cache, name)) for name in os.listdir(cache))
        same = "the same" if losses[0] == losses[1] else "NOT the same"
        print(f"cache {size / (1 << 30):.2f} GiB; losses of both starts are {same}")
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
