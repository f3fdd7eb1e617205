#!/usr/bin/env python3
"""Measures how a server starts on a directory of many adapters, and what the first reply of each costs.

    python3 Scripts/serve_cold.py .build/release/lora models/base.bin adapters/smart-home.lora [other.lora…] \\
        [--adapters 200] [--tried 40]

The directory holds variants of the adapters given, each with a content of its own. Some of them (the same number of each
kind) are asked for one token: first when nothing of them is in memory, then again. Prompts have random tokens, so that no
prefix is cached. Exits 1 when the server is not ready within 2 s, or a kind's first replies are more than 50 ms later than
its further ones, by their medians.
"""
import argparse
import os
import random
import statistics
import sys
import tempfile
import time

import adapter_versions
from with_server import Server

PROMPT, VOCABULARY = 64, 40_000


def fill(folder, sources, count):
    """Names of the variants of each source."""
    contents = [adapter_versions.entries(source) for source in sources]
    names = {source: [] for source in sources}
    for index in range(count):
        source = sources[index % len(sources)]
        name = f"tenant-{index}"
        scaled = adapter_versions.scaled(contents[index % len(sources)], 1 - index / (2 * count))
        adapter_versions.pack(os.path.join(folder, name + ".lora"), scaled)
        names[source].append(name)
    return names


def seconds(server, model, generator):
    """Until the one token of a reply is there."""
    prompt = [generator.randrange(1000, VOCABULARY) for _ in range(PROMPT)]
    begun = time.monotonic()
    reply = server.send("POST", "/v1/completions", {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0})
    if reply.status != 200:
        raise RuntimeError(f"{model}: {reply.status} {reply.data[:200]}")
    return time.monotonic() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("lora", "base"):
        parser.add_argument(name)
    parser.add_argument("sources", nargs="+", metavar="adapter")
    parser.add_argument("--adapters", type=int, default=200)
    parser.add_argument("--tried", type=int, default=40)
    options = parser.parse_args()
    generator, holds = random.Random(0), True
    with tempfile.TemporaryDirectory(prefix="lora-cold-") as folder:
        names = fill(folder, options.sources, options.adapters)
        with Server(options.lora, options.base, folder) as server:
            started = server.seconds_to_start
            holds &= started <= 2
            print(f"{'holds' if started <= 2 else 'FAILS'}  ready after {started:.2f} s with {options.adapters} adapters")
            for _ in range(5):
                seconds(server, names[options.sources[0]].pop(), generator)
            for source in options.sources:
                cold, warm = [], []
                for name in names[source][:options.tried // len(options.sources)]:
                    cold.append(seconds(server, name, generator))
                    warm += [seconds(server, name, generator) for _ in range(2)]
                later = statistics.median(cold) - statistics.median(warm)
                holds &= later <= 0.05
                print(f"{'holds' if later <= 0.05 else 'FAILS'}  {os.path.basename(source)}: {len(cold)} first replies after "
                      f"{statistics.median(cold) * 1000:.0f} ms, most {max(cold) * 1000:.0f} ms; further ones after "
                      f"{statistics.median(warm) * 1000:.0f} ms: {later * 1000:.0f} ms later")
            print(f"{server.gauge('lora_adapter_resident_bytes') / 1e6:.0f} MB of adapters in memory, "
                  f"{server.resident_bytes() / 1e6:.0f} MB of the process")
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
