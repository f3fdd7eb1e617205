#!/usr/bin/env python3
"""Prints how accuracy on medical-coding moves with rank, targets and the number of training rows.

    python3 Scripts/domains_growth.py .build/release/lora models/base.bin [--rows N]

Each run sees its rows once. Rank and targets are compared on 500 rows; the adapter of all rows is the one that
`make domains` made. Accuracy is of the test split's first N rows (all). The results are kept in
.build/domains-growth.json.
"""
import argparse
import json
import shutil
import tempfile
from pathlib import Path

from domains import ADAPTERS, lora_json

DATA = Path("datasets/medical-coding")
RESULTS = Path(".build/domains-growth.json")
ALL_ROWS = ("all-linear", 8, 3000)
# (targets, rank, rows); alpha is twice the rank, as in the domain's own settings.
RUNS = [("all-linear", 8, 250), ("all-linear", 8, 500), ("all-linear", 8, 1000), ("all-linear", 2, 500),
        ("all-linear", 32, 500), ("attention", 2, 500), ("attention", 8, 500), ("attention", 32, 500)]


def data_with(rows, folder):
    """The data set with its first training rows only; they are in random order."""
    directory = folder / f"rows-{rows}"
    if not directory.exists():
        directory.mkdir()
        shutil.copy(DATA / "valid.jsonl", directory)
        lines = (DATA / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (directory / "train.jsonl").write_text("".join(lines[:rows]), encoding="utf-8")
    return directory


def train(lora, base, folder, targets, rank, rows):
    output = folder / f"{targets}-{rank}-{rows}.lora"
    lora_json(lora, "train", "--base", base, "--data", data_with(rows, folder), "--output", output,
              "--target", targets, "--rank", rank, "--alpha", 2 * rank)
    return output


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lora")
    parser.add_argument("base")
    parser.add_argument("--rows", type=int, metavar="N")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        adapters = [train(chosen.lora, chosen.base, Path(folder), *run) for run in RUNS]
        adapters.append(ADAPTERS / "medical-coding.lora")
        options = [part for path in adapters for part in ("--adapter", path)]
        if chosen.rows:
            options += ["--limit", chosen.rows]
        tested = lora_json(chosen.lora, "eval", "--base", chosen.base, *options, "--data", DATA)["results"][1:]
        sizes = [path.stat().st_size for path in adapters]
    results = []
    print("| targets | rank | rows | accuracy | test loss | file |\n| --- | --- | --- | --- | --- | --- |")
    for (targets, rank, rows), result, size in zip([*RUNS, ALL_ROWS], tested, sizes, strict=True):
        print(f"| {targets} | {rank} | {rows:,} | {result['exact_match']:.3f} | {result['loss']:.3f} | "
              f"{size / 1000:,.0f} KB |")
        results.append({"targets": targets, "rank": rank, "rows": rows, "bytes": size,
                        "accuracy": result["exact_match"], "loss": result["loss"]})
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
