#!/usr/bin/env python3
"""Kills in-place merges at random moments and checks that the base is always the old one or the new one, byte for byte.

Run with:
    python3 Scripts/kill_merges.py --base models/base.bin --adapter adapters/smart-home.lora [--lora .build/release/lora] [--count 200]

The base is copied; the original is only read. A merge that got through is taken back with `lora unmerge`, which must
give the old bytes. Half of the moments are drawn from the whole time a merge takes, half from its last tenth, where the
files change their places.
"""
import argparse
import hashlib
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time


def digest(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", required=True)
    parser.add_argument("--adapter", required=True)
    parser.add_argument("--lora", default=".build/release/lora")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        base = pathlib.Path(folder) / "base.bin"
        shutil.copyfile(options.base, base)
        merge = [options.lora, "merge", options.adapter, "--into", str(base), "--quiet"]

        def run(*arguments: str) -> None:
            subprocess.run([options.lora, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        old = digest(base)
        start = time.monotonic()
        subprocess.run(merge, check=True, capture_output=True)
        duration = time.monotonic() - start
        new = digest(base)
        run("generate", "--base", str(base), "--prompt", "a", "--max-tokens", "1")
        run("unmerge", str(base))
        if digest(base) != old:
            sys.exit("unmerge did not give the old base")
        killed = replaced = left = between = 0
        for index in range(options.count):
            span = (0, 1.05) if index % 2 == 0 else (0.9, 1.02)
            child = subprocess.Popen(merge, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(duration * random.uniform(*span))
            child.kill()
            killed += child.wait() != 0
            state = digest(base)
            if state not in (old, new):
                sys.exit(f"round {index}: the base is neither the old nor the new one")
            run("inspect", str(base))
            if state == new:
                replaced += 1
                run("unmerge", str(base))
                if digest(base) != old:
                    sys.exit(f"round {index}: unmerge did not give the old base")
            between += state == old and base.with_suffix(".bin.undo").exists()
            for file in base.parent.glob(".lora-*.tmp"):
                file.unlink()
                left += 1
        print(
            f"{options.count} merges of {duration:.2f} s, {killed} killed, {replaced} had replaced the base; "
            f"{left} temporary files left behind, {between} times a record without a replacement: "
            "the base was whole every time"
        )


if __name__ == "__main__":
    main()
