#!/usr/bin/env python3
"""Swaps an adapter's version again and again while clients stream answers of it.

    python3 Scripts/serve_swaps.py .build/release/lora models/base.bin adapters/smart-home.lora \\
        [--swaps 1000] [--clients 8]

Versions differ in scale, and so in their known answers at temperature 0. No request may fail; every answer must be exactly
one version's; the p99 gap between tokens must stay within 1.5 times that without swaps, which is measured some 25 times in
between, as machines change their speed; memory must not grow with swaps. It is looked at while clients pause, just as often:
in traffic it goes up and down with the answers under way, by more than a growth that would matter. Exits 1 if something of
this does not hold.
"""
import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time

import adapter_versions
from with_server import Server

NAME = "tenant"
# How often clients pause so that memory can be looked at.
RESTS = 25
SCALES = [1, 0.5, 0.75, 0.25, 0.375, 0.125, 0.625]
PROMPTS = ["set a timer for 12 minutes in the kitchen", "Write a long story about a lighthouse and its keeper.",
           "turn on the lights in the hall", "What is a good name for a small grey cat?"]


def body(prompt, tokens, stream):
    return {"model": NAME, "messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": tokens,
            "stream": stream}


class Client(threading.Thread):
    """Asks one prompt after the other, and notes texts, gaps between tokens, and failures."""

    def __init__(self, server, number, tokens, going, ending):
        super().__init__(daemon=True)
        self.server, self.number, self.tokens, self.going, self.ending = server, number, tokens, going, ending
        self.rests, self.replies, self.failures = False, [], []
        # Seconds between tokens without swaps, and with them.
        self.gaps, self.swapping = ([], []), True

    def run(self):
        connection, turn = self.server.connection(), self.number
        while not self.ending.is_set():
            self.rests = True
            self.going.wait()
            self.rests = False
            prompt = PROMPTS[turn % len(PROMPTS)]
            turn += 1
            try:
                self.replies.append((prompt, self.stream(connection, prompt)))
            except Exception as error:  # noqa: BLE001: every kind of failure counts
                self.failures.append(f"{type(error).__name__}: {error}")
                connection.close()
        connection.close()

    def stream(self, connection, prompt):
        connection.request("POST", "/v1/chat/completions", json.dumps(body(prompt, self.tokens, True)), {
            "Authorization": f"Bearer {self.server.key}", "Content-Type": "application/json"})
        reply = connection.getresponse()
        if reply.status != 200:
            raise RuntimeError(f"{reply.status} {reply.read()[:200]}")
        text, last, done = "", None, False
        for line in reply:
            if not line.startswith(b"data: "):
                continue
            if line.startswith(b"data: [DONE]"):
                done = True
                continue
            choice = json.loads(line[6:])["choices"][0]
            if choice["delta"].get("content"):
                now = time.monotonic()
                if last is not None:
                    self.gaps[self.swapping].append(now - last)
                last = now
                text += choice["delta"]["content"]
        if not done:
            raise RuntimeError("the stream ended early")
        return text


class Swaps:
    def __init__(self, options, folder):
        self.options, self.path = options, os.path.join(folder, NAME + ".lora")
        self.contents = adapter_versions.entries(options.adapter)
        shutil.copyfile(options.adapter, self.path)
        self.server = Server(options.lora, options.base, folder)
        self.files, self.answers = [], []

    def version(self):
        adapters = json.loads(self.server.get("/lora-adapters").data)
        return next(adapter["version"] for adapter in adapters if adapter["name"] == NAME)

    def publish(self, file):
        """Returns the seconds from the rename until the version is in service."""
        before = self.version()
        adapter_versions.put(self.path, file)
        begun = time.monotonic()
        while self.version() == before:
            if time.monotonic() - begun > 60:
                raise RuntimeError("a version is not in service after 60 s")
            time.sleep(0.01)
        return time.monotonic() - begun

    def learn(self):
        """Makes versions, each in service once, and keeps those whose every answer is its own."""
        made = self.path + ".made"
        for number, scale in enumerate(SCALES):
            adapter_versions.pack(made, adapter_versions.scaled(self.contents, scale))
            with open(made, "rb") as file:
                data = file.read()
            if number:
                self.publish(data)
            answers = {}
            for prompt in PROMPTS:
                reply = self.server.send("POST", "/v1/chat/completions", body(prompt, self.options.tokens, False))
                answers[prompt] = json.loads(reply.data)["choices"][0]["message"]["content"]
            if all(answers[prompt] != other[prompt] for other in self.answers for prompt in PROMPTS[1::2]):
                self.files.append(data)
                self.answers.append(answers)
        os.remove(made)
        if len(self.files) < 2:
            raise RuntimeError("versions do not differ in their answers")
        self.publish(self.files[0])

    def is_idle(self):
        return not self.server.gauge("vllm:num_requests_running") and not self.server.gauge("vllm:num_requests_waiting")

    def run(self):
        """Clients stream while versions are published, and for some seconds without after every rest. Clients, times of
        publishing, and memory at rest after so many swaps."""
        going, ending, times, memory = threading.Event(), threading.Event(), [], []
        clients = [Client(self.server, number, self.options.tokens, going, ending)
                   for number in range(self.options.clients)]
        going.set()
        for client in clients:
            client.start()
        for index in range(self.options.swaps):
            times.append(self.publish(self.files[(index + 1) % len(self.files)]))
            if (index + 1) % max(1, self.options.swaps // RESTS) == 0:
                going.clear()
                self.server.until(lambda: self.is_idle() and all(client.rests for client in clients), "answers to end")
                memory.append((index + 1, self.server.resident_bytes()))
                for client in clients:
                    client.swapping = False
                going.set()
                # The server is asked for its versions just as often.
                begun = time.monotonic()
                while time.monotonic() - begun < self.options.quiet_seconds / RESTS:
                    self.version()
                    time.sleep(0.01)
                for client in clients:
                    client.swapping = True
        ending.set()
        for client in clients:
            client.join()
        return clients, times, memory


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def slope(points):
    """Of the least-squares line through (x, y), and its standard error."""
    middle, average = (sum(values) / len(points) for values in zip(*points))
    spread = sum((x - middle) ** 2 for x, _ in points)
    grown = sum((x - middle) * (y - average) for x, y in points) / spread
    rest = sum((y - average - grown * (x - middle)) ** 2 for x, y in points)
    return grown, (rest / max(1, len(points) - 2) / spread) ** 0.5


def report(swaps, clients, times, memory):
    checks = []
    replies = [reply for client in clients for reply in client.replies]
    failures = [failure for client in clients for failure in client.failures]
    checks.append(("no request failed", not failures, f"{len(replies)} answered during {len(times)} swaps; "
                   f"{len(failures)} failed {failures[:2]}"))
    known = {prompt: [answers[prompt] for answers in swaps.answers] for prompt in PROMPTS}
    mixed = [(prompt, text) for prompt, text in replies if text not in known[prompt]]
    seen = [sum(text == answers[prompt] for prompt, text in replies if prompt in PROMPTS[1::2]) for answers in swaps.answers]
    checks.append(("every answer is one version's", not mixed, f"{len(mixed)} of none {mixed[:1]}; by version {seen}"))
    checks.append(("every version answered", all(seen), f"{len(seen)} versions"))
    without, during = ([gap for client in clients for gap in client.gaps[swapping]] for swapping in (False, True))
    before, after = percentile(without, 0.99), percentile(during, 0.99)
    checks.append(("p99 gap between tokens", after <= 1.5 * before,
                   f"{after * 1000:.1f} ms of {len(during)}, without swaps {before * 1000:.1f} ms of {len(without)}: "
                   f"{after / before:.2f} times"))
    settled = memory[len(memory) // 5:]
    grown, error = slope(settled)
    checks.append(("memory is flat", grown * 10_000 < 10 << 20,
                   f"{grown:.0f} ± {error:.0f} bytes a swap; at rest {settled[0][1] / 2**20:.1f} to "
                   f"{settled[-1][1] / 2**20:.1f} MiB"))
    for what, holds, figure in checks:
        print(f"{'holds' if holds else 'FAILS'}  {what}: {figure}")
    print(f"a version was in service {percentile(times, 0.5) * 1000:.0f} ms after its file, p99 "
          f"{percentile(times, 0.99) * 1000:.0f} ms")
    return all(holds for _, holds, _ in checks)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("lora", "base", "adapter"):
        parser.add_argument(name)
    parser.add_argument("--swaps", type=int, default=1000, help="at least 10")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--quiet-seconds", type=float, default=100, help="time without swaps to compare with")
    options = parser.parse_args()
    if options.swaps < 10:
        parser.error("--swaps must be at least 10")
    with tempfile.TemporaryDirectory(prefix="lora-swaps-", ignore_cleanup_errors=True) as folder:
        swaps = Swaps(options, folder)
        with swaps.server:
            swaps.learn()
            holds = report(swaps, *swaps.run())
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
