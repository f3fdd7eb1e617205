#!/usr/bin/env python3
"""Trains an adapter for each of the three domains, and compares it with the base and a long prompt.

    python3 Scripts/domains.py .build/release/lora models/base.bin [--rows N] [--only DOMAIN] [PHASE...]

Phases, all by default: `train` writes adapters/DOMAIN.lora where there is none (remove one to train it again);
`accuracy` asks a live server every row of the test splits, or the first N; `timing` asks it some rows one after another
(on an otherwise idle machine); `forgetting` takes the loss of every adapter on the other domains and on
datasets/neutral. What a phase found is kept in .build/domains.json, and the tables are printed from there, so that a
phase can be repeated alone. `prompts`, which only runs when asked for, compares the two ways of writing the long prompt
on the validation splits.
"""
import argparse
import collections
import json
import os
import random
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from domains_asking import measure, milliseconds, score
from domains_settings import DOMAINS, SEED, message, rows_of, short_prompt
from with_server import Server

ADAPTERS = Path("adapters")
RESULTS = Path(".build/domains.json")
TIMED_ROWS = 14
TIMED_COLD = 5
FORGETTING_ROWS = 100


def lora_json(*command):
    """What a command prints with --json."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1795392000"}
    done = subprocess.run([*map(str, command), "--json"], stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with status {done.returncode}")
    return json.loads(done.stdout)


def adapter(domain):
    return ADAPTERS / f"{domain.name}.lora"


def train(run):
    """Trains what is missing; the records of all three."""
    found = {}
    for domain in run.domains:
        path = adapter(domain)
        if path.exists():
            print(f"{path} is there and is kept", file=sys.stderr)
        else:
            lora_json(run.lora, "train", "--base", run.base, "--data", domain.data, "--output", path, *domain.training)
        with zipfile.ZipFile(path) as archive:
            record = json.loads(archive.read("lora.json"))["training"]
        found[domain.name] = {"arguments": " ".join(domain.training), "bytes": path.stat().st_size, **record}
    return found


def ways(domain, base):
    """What is compared: a name, the model that is asked, and how a question becomes messages."""
    return [("base", Path(base).stem, short_prompt),
            ("base, long prompt", Path(base).stem, domain.long_prompt()),
            ("adapter", domain.name, short_prompt)]


def accuracy(run):
    found = {}
    with Server(run.lora, run.base, ADAPTERS) as server:
        for domain in run.domains:
            rows = rows_of(domain.data, "test")[:run.rows]
            answers = [answer for _, answer in rows_of(domain.data, "train")]
            most_frequent = collections.Counter(answers).most_common(1)[0][0]
            found[domain.name] = {
                "majority": score(domain, [most_frequent] * len(rows), [answer for _, answer in rows])}
            for name, model, prompt in ways(domain, run.base):
                print(f"asking {model} {len(rows)} rows of {domain.name}", file=sys.stderr)
                found[domain.name][name] = measure(server, domain, model, prompt, rows)
    return found


def timing(run):
    found = {}
    with Server(run.lora, run.base, ADAPTERS) as server:
        for domain in run.domains:
            rows = random.Random(SEED).sample(rows_of(domain.data, "test"), TIMED_ROWS)
            found[domain.name] = {
                name: {"milliseconds": milliseconds(server, domain, model, prompt, rows)}
                for name, model, prompt in ways(domain, run.base)}
            found[domain.name]["base, long prompt"]["milliseconds_uncached"] = milliseconds(
                server, domain, Path(run.base).stem, uncached(domain.long_prompt()), rows[:TIMED_COLD])
    return found


def uncached(prompt):
    """The same prompt with a number before it, another one each time, so that no cached beginning fits."""
    count = iter(range(1000))

    def numbered(question):
        first, *others = prompt(question)
        return [message(first["role"], f"{next(count)}. {first['content']}"), *others]
    return numbered


def forgetting(run):
    """Losses per supervised token: {data: {model: loss}}."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.jsonl"
        answers = [answer for _, answer in rows_of("datasets/neutral", "test")]
        text.write_text("".join(json.dumps({"text": answer}) + "\n" for answer in answers), encoding="utf-8")
        data = {domain.name: domain.data for domain in run.domains} | {
            "neutral, as chat": "datasets/neutral", "neutral, as text": text}
        adapters = [part for domain in run.domains for part in ("--adapter", adapter(domain))]
        for name, path in data.items():
            results = lora_json(run.lora, "eval", "--base", run.base, *adapters, "--data", path, "--metrics", "loss",
                                "--limit", FORGETTING_ROWS)["results"]
            found[name] = {Path(result["adapter"]).stem if result["adapter"] else "base": result["loss"]
                           for result in results}
    return found


def prompts(run):
    """The long prompt's two forms on the validation splits."""
    found = {}
    with Server(run.lora, run.base, ADAPTERS) as server:
        for domain in run.domains:
            rows = rows_of(domain.data, "valid")[:run.rows]
            found[domain.name] = {
                form: measure(server, domain, Path(run.base).stem, domain.long_prompt(as_turns), rows)
                for form, as_turns in (("turns", True), ("one message", False))}
            print(domain.name, json.dumps(found[domain.name]), flush=True)
    return found


def cell(value, form):
    return "" if value is None else format(value, form)


def print_tables(results):
    print_accuracy(results.get("accuracy", {}), results.get("timing", {}))
    if "forgetting" in results:
        models = ["base", *(domain.name for domain in DOMAINS)]
        print(f"\n| loss on | {' | '.join(models)} |\n|{' --- |' * (len(models) + 1)}")
        for data, losses in results["forgetting"].items():
            print(f"| {data} | {' | '.join(cell(losses.get(model), '.3f') for model in models)} |")
    if "train" in results:
        print("\n| adapter | options | supervised tokens | steps | validation loss | products | file |\n"
              "| --- | --- | --- | --- | --- | --- | --- |")
        for name, found in results["train"].items():
            print(f"| {name} | `{found['arguments']}` | {found['supervised_tokens']:,} | {found['steps']} | "
                  f"{found['valid_loss']:.3f} | {found['compute']} | "
                  f"{found['bytes'] / 1000:,.0f} KB |")


def print_accuracy(accuracy, timing):
    print("| domain | | rows | accuracy | phoneme error rate | prompt tokens | ms a request |\n"
          "| --- | --- | --- | --- | --- | --- | --- |")
    for domain, ways_found in accuracy.items():
        for name, found in ways_found.items():
            times = timing.get(domain, {}).get(name, {})
            speed = cell(times.get("milliseconds"), ",.0f")
            if "milliseconds_uncached" in times:
                speed += f" (uncached {times['milliseconds_uncached']:,.0f})"
            print(f"| {domain} | {name} | {found['rows']} | {found['accuracy']:.3f} | "
                  f"{cell(found.get('phoneme_error_rate'), '.3f')} | {cell(found.get('prompt_tokens'), '.0f')} | {speed} |")


def main():
    phases = {phase.__name__: phase for phase in (train, accuracy, timing, forgetting, prompts)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lora")
    parser.add_argument("base")
    parser.add_argument("phases", nargs="*", metavar="PHASE", default=["train", "accuracy", "timing", "forgetting"])
    parser.add_argument("--rows", type=int, metavar="N")
    parser.add_argument("--only", action="append", choices=[domain.name for domain in DOMAINS], metavar="DOMAIN")
    run = parser.parse_intermixed_args()
    run.domains = [domain for domain in DOMAINS if domain.name in (run.only or [domain.name])]
    if unknown := set(run.phases) - set(phases):
        parser.error(f"no phase {', '.join(sorted(unknown))}; there are {', '.join(phases)}")
    for name in run.phases:
        found = phases[name](run)
        results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        RESULTS.parent.mkdir(exist_ok=True)
        results[name] = {**results.get(name, {}), **found}
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print_tables(json.loads(RESULTS.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
