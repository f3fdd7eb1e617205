#!/usr/bin/env python3
"""Lets random clients, swaps, spoilt files and changing keys loose on a server, and checks every answer.

    swift build -c release --product lora --sanitize address --scratch-path .build-asan
    python3 Scripts/serve_soak.py .build-asan/release/lora models/base.bin adapters/smart-home.lora [--minutes 20]

What may be answered is known beforehand: each version of the adapter has its own answers at temperature 0, the base has the
same for a seed, and the same log-probabilities for a text. Prints counts of all that was done; exits 1 for an answer that is
none of the known ones, an error that nothing explains, a line of a sanitizer in the server's log, or an exit status but 0.
"""
import argparse
import collections
import http.client
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import adapter_versions
from with_server import Server

TENANT = "tenant"
SCALES = [1, 0.5, 0.25]
PROMPTS = ["set a timer for 12 minutes in the kitchen", "turn on the lights in the hall",
           "What is a good name for a small grey cat?"]
TEXTS = ["The capital of France is Paris.", "Water boils at 100 degrees, or so they say."]
SEEDS = [1, 2]
TOKENS = 16
CHAT = "/v1/chat/completions"


class WrongAnswer(Exception):
    pass


class Soak:
    def __init__(self, options, folder):
        self.options, self.folder, self.source = options, folder, options.adapter
        self.path = os.path.join(folder, TENANT + ".lora")
        self.contents = adapter_versions.entries(options.adapter)
        shutil.copyfile(options.adapter, self.path)
        self.server = Server(options.lora, options.base, folder)
        self.keys = self.server.command[self.server.command.index("--keys") + 1]
        self.counts, self.wrong, self.lock = collections.Counter(), [], threading.Lock()
        self.ending = threading.Event()
        self.versions, self.answers = [], collections.defaultdict(set)

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def note(self, problem):
        with self.lock:
            self.wrong.append(problem)
        print(f"WRONG  {problem}", flush=True)

    # What is known.

    def learn(self):
        models = json.loads(self.server.get("/v1/models").data)["data"]
        self.base = next(model["id"] for model in models if not model["parent"])
        for number, scale in enumerate(SCALES):
            made = self.path + ".made"
            adapter_versions.pack(made, adapter_versions.scaled(self.contents, scale))
            with open(made, "rb") as file:
                self.versions.append(file.read())
            os.remove(made)
            before = self.listed()["version"]
            adapter_versions.put(self.path, self.versions[-1])
            if number:
                self.server.until(lambda: self.listed()["version"] != before, "a version to be in service")
            for prompt in PROMPTS:
                self.answers[TENANT, prompt].add(self.whole(TENANT, prompt))
        for prompt in PROMPTS:
            self.answers[self.base, prompt].add(self.whole(self.base, prompt))
            for seed in SEEDS:
                self.answers[self.base, prompt, seed].add(self.whole(self.base, prompt, seed))
        for text in TEXTS:
            self.answers[text].add(self.scored(text))
        if not any(len(self.answers[TENANT, prompt]) == len(SCALES) for prompt in PROMPTS):
            raise RuntimeError("versions do not differ in their answers")

    def listed(self):
        return next((one for one in json.loads(self.server.get("/lora-adapters").data) if one["name"] == TENANT), None)

    # Asking.

    def body(self, model, prompt, seed=None, **fields):
        sampling = {"temperature": 0} if seed is None else {"temperature": 1, "seed": seed}
        return {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": TOKENS, **sampling,
                **fields}

    def json(self, path, body):
        reply = self.server.send("POST", path, body, timeout=600)
        if reply.status == 429:
            return None
        if reply.status != 200:
            raise WrongAnswer(f"{path} is {reply.status}: {reply.data[:200]}")
        return json.loads(reply.data)["choices"][0]

    def whole(self, model, prompt, seed=None):
        choice = self.json(CHAT, self.body(model, prompt, seed))
        return choice and choice["message"]["content"]

    def scored(self, text):
        body = {"model": self.base, "prompt": text, "echo": True, "max_tokens": 0, "logprobs": 2}
        choice = self.json("/v1/completions", body)
        return choice and json.dumps(choice["logprobs"])

    def streamed(self, model, prompt):
        """The whole text of a stream; nil when told to wait."""
        client = self.begin(self.body(model, prompt, stream=True))
        try:
            with client.makefile("rb") as file:
                status = int(file.readline().split()[1])
                text, done = "", False
                for line in file:
                    if line.startswith(b"data: [DONE]"):
                        done = True
                        break
                    if line.startswith(b"data: "):
                        part = json.loads(line[6:])
                        if "error" in part:
                            raise WrongAnswer(f"a stream ended in {part}")
                        text += part["choices"][0]["delta"].get("content", "")
        finally:
            client.close()
        if status == 429:
            return None
        if status != 200 or not done:
            raise WrongAnswer(f"a stream is {status} and {'ended' if done else 'broke off'}")
        return text

    def begin(self, body, cut=None):
        data = json.dumps(body).encode()
        head = (f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {self.server.key}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n")
        client = socket.create_connection(("127.0.0.1", self.server.port), timeout=600)
        client.sendall((head.encode() + data)[:cut])
        return client

    # What clients do; each returns what was done.

    def check(self, key, text, what):
        if text is None:
            return "told to wait"
        if text not in self.answers[key]:
            raise WrongAnswer(f"{what} of {key}: {text!r}")
        return what

    def ask(self, random):
        model, prompt = random.choice((TENANT, TENANT, self.base)), random.choice(PROMPTS)
        return self.check((model, prompt), self.whole(model, prompt), "answers whole")

    def stream(self, random):
        model, prompt = random.choice((TENANT, TENANT, self.base)), random.choice(PROMPTS)
        return self.check((model, prompt), self.streamed(model, prompt), "answers streamed")

    def sample(self, random):
        prompt, seed = random.choice(PROMPTS), random.choice(SEEDS)
        return self.check((self.base, prompt, seed), self.whole(self.base, prompt, seed), "answers sampled")

    def score(self, random):
        text = random.choice(TEXTS)
        return self.check(text, self.scored(text), "texts scored")

    def abandon(self, random):
        fields = {"max_tokens": 1000, "stream": True, "n": random.choice((1, 1, 2))}
        client = self.begin({**self.body(random.choice((TENANT, self.base)), random.choice(PROMPTS)), **fields})
        client.settimeout(random.uniform(0.01, 3))
        try:
            for _ in range(random.randrange(8)):
                client.recv(4096)
        except TimeoutError:
            pass
        if random.random() < 0.5:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        return "streams abandoned"

    def cut(self, random):
        self.begin(self.body(TENANT, random.choice(PROMPTS)), cut=random.randrange(1, 400)).close()
        return "requests cut off"

    def bad(self, random):
        body, status = random.choice((
            (b"{", 400), (b"\xff" * 50, 400), (self.body("there-is-none", "x"), 404), (b" " * (2 << 20), 413),
            (self.body(TENANT, "x", n=10**6), 400), (self.body(TENANT, "word " * 20_000), 400),
            (self.body(TENANT, "x", tools=[1]), 400)))
        reply = self.server.send("POST", CHAT, body, timeout=600)
        if reply.status != status:
            raise WrongAnswer(f"a bad request is {reply.status}, not {status}: {reply.data[:200]}")
        return "bad requests"

    def look(self, random):
        path = random.choice(("/", "/health", "/ready", "/metrics", "/v1/models", "/lora-adapters"))
        reply = self.server.get(path)
        if reply.status != 200 or not reply.data:
            raise WrongAnswer(f"{path} is {reply.status}")
        return "pages read"

    def visit(self, random):
        """A guest whose key comes and goes, and an adapter that does so too."""
        reply = self.server.send("POST", CHAT, self.body(f"visitor-{random.randrange(3)}", PROMPTS[0]), {
            "Authorization": f"Bearer {self.guest}"} if random.random() < 0.5 else None, timeout=600)
        if reply.status not in (200, 401, 403, 404, 429, 503):
            raise WrongAnswer(f"a visitor is {reply.status}: {reply.data[:200]}")
        if reply.status == 200:
            text = json.loads(reply.data)["choices"][0]["message"]["content"]
            self.check((TENANT, PROMPTS[0]), text, "")
        return f"visits, {reply.status}"

    def client(self, number):
        generator = random.Random(self.options.seed * 1000 + number)
        actions = [self.ask] * 3 + [self.stream] * 3 + [self.sample] * 2 + [self.score] * 2 + [self.abandon] * 3 + [
            self.cut, self.bad, self.bad, self.look, self.visit]
        while not self.ending.is_set():
            action = generator.choice(actions)
            try:
                self.count(action(generator))
            except WrongAnswer as error:
                self.note(str(error))
            except (OSError, http.client.HTTPException) as error:
                self.note(f"{action.__name__}: {type(error).__name__}: {error}")
                if self.server.process.poll() is not None:
                    self.ending.set()

    # What operators do.

    def operate(self):
        generator = random.Random(self.options.seed)
        good = self.versions[0]
        actions = [self.swap] * 6 + [self.spoil, self.spoil, self.come, self.come, self.go, self.change_keys]
        while not self.ending.wait(generator.uniform(0, 2)):
            try:
                self.count(generator.choice(actions)(generator))
            except Exception as error:  # noqa: BLE001: whatever stops the operator ends the soak
                self.note(f"operator: {type(error).__name__}: {error}")
                self.ending.set()
        adapter_versions.put(self.path, good)

    def swap(self, generator):
        adapter_versions.put(self.path, generator.choice(self.versions))
        return "swaps"

    def spoil(self, generator):
        data = bytearray(generator.choice(self.versions))
        if generator.random() < 0.5:
            del data[generator.randrange(len(data)):]
        else:
            for _ in range(20):
                data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        adapter_versions.put(self.path, bytes(data))
        return "spoilt files"

    def come(self, generator):
        path = os.path.join(self.folder, f"visitor-{generator.randrange(3)}.lora")
        if generator.random() < 0.3:  # not beside its place, so that half of it may be seen
            with open(path, "wb") as file:
                file.write(generator.choice(self.versions))
        else:
            adapter_versions.put(path, generator.choice(self.versions))
        return "adapters added"

    def go(self, generator):
        try:
            os.remove(os.path.join(self.folder, f"visitor-{generator.randrange(3)}.lora"))
            return "adapters removed"
        except FileNotFoundError:
            return "adapters removed that were not there"

    def make_guest(self):
        with open(self.keys, encoding="utf-8") as file:
            self.without_guest = file.read()
        self.guest = subprocess.run(
            [self.options.lora, "serve-adapter", "--keys", self.keys, "--new-key", "guest"], check=True,
            capture_output=True, text=True).stdout.split()[-1]
        with open(self.keys, encoding="utf-8") as file:
            self.with_guest = file.read() + '  adapters: ["visitor-*"]\n  requests_per_minute: 30\n'

    def change_keys(self, generator):
        beside = self.keys + ".new"
        with open(beside, "w", encoding="utf-8") as file:
            file.write(generator.choice((self.with_guest, self.without_guest, self.with_guest + "- nonsense\n")))
        os.replace(beside, self.keys)
        self.server.process.send_signal(signal.SIGHUP)
        return "reloads of keys"

    # All together.

    def run(self):
        self.learn()
        self.make_guest()
        threads = [threading.Thread(target=self.client, args=(number,)) for number in range(self.options.clients)]
        threads.append(threading.Thread(target=self.operate))
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        self.ending.wait(self.options.minutes * 60)
        self.ending.set()
        for thread in threads:
            thread.join()
        minutes = (time.monotonic() - begun) / 60
        alive = self.server.process.poll() is None
        memory = self.server.resident_bytes() >> 20 if alive else 0
        if alive:
            self.check((TENANT, PROMPTS[0]), self.whole(TENANT, PROMPTS[0]), "the last answer")
        status = self.server.stop()
        reports = [line for line in self.server.logged().splitlines() if "Sanitizer" in line or "runtime error" in line]
        for what, number in sorted(self.counts.items(), key=lambda item: -item[1]):
            print(f"{number:7}  {what}")
        print(f"{minutes:.1f} minutes, {sum(self.counts.values())} actions; {len(self.wrong)} wrong, {len(reports)} reports "
              f"of a sanitizer, exit status {status}, {memory} MiB at the end")
        for report in reports[:5]:
            print(report)
        if status or reports:
            print(self.server.logged()[-6000:], file=sys.stderr)
        return not self.wrong and not reports and status == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("lora", "base", "adapter"):
        parser.add_argument(name)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lora-soak-", ignore_cleanup_errors=True) as folder:
        soak = Soak(options, folder)
        with soak.server:
            holds = soak.run()
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
