#!/usr/bin/env python3
"""Does to a server of its own what goes wrong in production, and checks that it stays right.

    python3 Scripts/serve_faults.py .build/release/lora models/base.bin adapters/smart-home.lora [--only NAME…]

Needs the standard library only. Prints a line per check; exits 1 if one fails. What a machine does not allow (mounting a
full disk needs root) is said, not passed over.
"""
import argparse
import http.client
import json
import os
import random
import resource
import selectors
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

ASK = [{"role": "user", "content": "set a timer for 12 minutes in the kitchen"}]
STORY = [{"role": "user", "content": "Write a long story about a lighthouse and its keeper."}]
CHAT = "/v1/chat/completions"
FAULTS = []


def fault(function):
    """A fault gets a `Scene`, says by `assert` what must hold, and returns what is worth printing."""
    FAULTS.append(function)
    return function


class Scene:
    """A folder with a copy of the adapter, and the servers that were started on it."""

    def __init__(self, options, folder):
        self.lora, self.base, self.source = options.lora, options.base, options.adapter
        self.adapters = os.path.join(folder, "adapters")
        os.mkdir(self.adapters)
        self.folder, self.contents = folder, adapter_versions.entries(options.adapter)
        self.good = os.path.join(self.adapters, "good.lora")
        self.restore()

    def restore(self):
        shutil.copyfile(self.source, self.good + ".new")
        os.replace(self.good + ".new", self.good)

    def serve(self, *options, base=None):
        return Server(self.lora, base or self.base, self.adapters, *options)


def ask(server, model="good", messages=ASK, **fields):
    """The text at temperature 0."""
    reply = server.send("POST", CHAT, {"model": model, "messages": messages, "temperature": 0, "max_tokens": 24, **fields})
    assert reply.status == 200, f"{reply.status} {reply.data[:200]}"
    return json.loads(reply.data)["choices"][0]["message"]["content"]


def begin(server, tokens=2000, receive_buffer=None, **fields):
    """A socket on which an answer streams; what is read of it so far is lost."""
    body = json.dumps({"model": model_of_base(server), "messages": STORY, "temperature": 0, "max_tokens": tokens,
                       "stream": True, **fields}).encode()
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(600)
    client.connect(("127.0.0.1", server.port))
    client.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.key}\r\nContent-Type: "
                   f"application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return client


def model_of_base(server):
    if not hasattr(server, "base"):
        data = json.loads(server.get("/v1/models").data)["data"]
        server.base = next(model["id"] for model in data if not model.get("parent"))
    return server.base


def read_until(client, mark):
    """Reads until `mark` has come `mark[1]` times; all that was read."""
    text, (word, count) = b"", mark
    while text.count(word) < count:
        part = client.recv(65536)
        assert part, f"the stream ended early: {text[-300:]}"
        text += part
    return text


def cut(client):
    """Ends a connection with a reset, as a client that crashes does."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def idle(server, seconds=30):
    """Seconds until nothing runs or waits."""
    begun = time.monotonic()
    while server.gauge("vllm:num_requests_running") or server.gauge("vllm:num_requests_waiting"):
        assert time.monotonic() - begun < seconds, f"requests still run after {seconds} s"
        time.sleep(0.01)
    return time.monotonic() - begun


def listed(server, name="good"):
    """What `/lora-adapters` says of an adapter; nil when it has none of that name."""
    return next((one for one in json.loads(server.get("/lora-adapters").data) if one["name"] == name), None)


@fault
def terminated(scene):
    """SIGTERM: what runs ends, nothing new begins."""
    with scene.serve("--drain-timeout", "60s") as server:
        client = begin(server, tokens=120)
        text = read_until(client, (b"data:", 5))
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        try:
            status = server.get("/ready").status
            assert status == 503, f"/ready is {status} while draining"
            outcome = "503"
        except OSError:
            outcome = "refused"
        text += read_until(client, (b"data: [DONE]", 1))
        assert b'"finish_reason":"length"' in text.replace(b": ", b":") and text.count(b"data:") > 60
        status = server.stop()
        assert status == 0, f"exit status {status}"
        return f"the running answer ended; a new connection was {outcome}"


@fault
def terminated_late(scene):
    """An answer longer than `--drain-timeout` does not hold the server."""
    with scene.serve("--drain-timeout", "1s") as server:
        client = begin(server, tokens=6000)
        read_until(client, (b"data:", 5))
        begun = time.monotonic()
        status = server.stop()
        client.close()
        assert status == 0, f"exit status {status}"
        return f"ended after {time.monotonic() - begun:.1f} s"


@fault
def killed(scene):
    """SIGKILL and restart: nothing has to be repaired."""
    with scene.serve() as server:
        text = ask(server)
        begin(server)
        server.stop(signal.SIGKILL)
        server.start()
        assert ask(server) == text
        return f"ready {server.seconds_to_start:.2f} s after the restart"


@fault
def clients_gone(scene):
    """Clients that go away, by a reset or a close, running or waiting, free their places."""
    with scene.serve() as server:
        clients = [begin(server) for _ in range(8)]
        for client in clients:
            read_until(client, (b"data:", 2))
        clients += [begin(server) for _ in range(32)]
        for index, client in enumerate(clients):
            cut(client) if index % 2 else client.close()
        seconds = idle(server)
        ask(server)
        return f"40 clients, all places free after {seconds:.2f} s"


@fault
def slow_reader(scene):
    """A client that reads nothing costs memory for what its socket holds, and time to nobody."""
    with scene.serve() as server:
        ask(server)
        before = server.resident_bytes()
        slow = [begin(server, tokens=1500, receive_buffer=4096, logprobs=True, top_logprobs=20) for _ in range(4)]
        begun = time.monotonic()
        ask(server)
        others = time.monotonic() - begun
        time.sleep(5)
        grown = server.resident_bytes() - before
        for client in slow:
            cut(client)
        seconds = idle(server)
        assert grown < 128 << 20, f"{grown >> 20} MiB more"
        return f"another answer took {others:.2f} s; {grown >> 20} MiB more; free after {seconds:.2f} s"


@fault
def many_connections(scene):
    """10,000 connections: those beyond the limit are told so, and the server goes on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = min(10_000, hard - 200)
    try:
        with scene.serve() as server:
            text, (statuses, retry) = ask(server), flood(server, wanted)
            assert statuses.get("503", 0) and retry, f"none was told to come back: {statuses}"
            assert ask(server) == text
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return f"{wanted} at once: {statuses}"


@fault
def descriptors_exhausted(scene):
    """No descriptor left for another connection: the server goes on when there is one again."""
    with scene.serve() as server:
        text = ask(server)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (96, 96))
        statuses, _ = flood(server, 400)
        server.until(lambda: answers(server), "an answer after the flood", 30)
        assert ask(server) == text
        return f"400 at once with 96 descriptors: {statuses}"


def answers(server):
    try:
        return server.get("/health").status == 200
    except OSError:
        return False


def flood(server, count):
    """Opens so many connections, all held, each asking for /health. How they were answered, and whether a 503 said when
    to come back."""
    waiting, statuses, retry, clients = selectors.DefaultSelector(), {}, False, []
    for _ in range(count):
        client = socket.socket()
        client.settimeout(10)
        try:
            client.connect(("127.0.0.1", server.port))
            client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        except OSError as error:
            name = type(error).__name__
            statuses[name] = statuses.get(name, 0) + 1
        client.setblocking(False)
        waiting.register(client, selectors.EVENT_READ)
        clients.append(client)
    left, end = count, time.monotonic() + 20
    while left and time.monotonic() < end:
        for event, _ in waiting.select(1):
            try:
                reply = event.fileobj.recv(4096)
                status = reply[9:12].decode() if reply else "closed"
                retry |= status == "503" and b"retry-after" in reply.lower()
            except OSError as error:
                status = type(error).__name__
            statuses[status] = statuses.get(status, 0) + 1
            waiting.unregister(event.fileobj)
            left -= 1
    if left:
        statuses["no answer"] = left
    for client in clients:
        client.close()
    return statuses, retry


@fault
def hostile_requests(scene):
    """Too large, too many, broken, cut in half: an error each, and the next request is answered."""
    with scene.serve() as server:
        text = ask(server)
        message = json.dumps({"model": "good", "messages": ASK}).encode()
        bodies = {
            "body": (b" " * (4 << 20), 413), "prompt": ({"model": "good", "messages": [
                {"role": "user", "content": "word " * 60_000}]}, 400),
            "n": ({"model": "good", "messages": ASK, "n": 10**6}, 400), "JSON cut": (message[:-5], 400),
            "half a character": (message.replace(b"kitchen", b"\xe6\x97"), 400), "NUL": (b"\0" * 100, 400),
            "nesting": (b'{"model":' + b"[" * 500_000, 400), "surrogate": (message.replace(b"kitchen", b"\\ud83d"), 400),
            "number": (b'{"model":"good","max_tokens":1e999}', 400), "twice": (b'{"model":"good","model":"base"}', 400)}
        for what, (body, status) in bodies.items():
            reply = server.send("POST", CHAT, body)
            assert reply.status == status, f"{what}: {reply.status}, not {status}: {reply.data[:120]}"
            assert "message" in json.loads(reply.data)["error"], what
        lines = {
            "header": b"GET /health HTTP/1.1\r\nHost: x\r\nX-Large: " + b"a" * (1 << 20) + b"\r\n\r\n",
            "headers": b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X-Y: z\r\n" * 20_000 + b"\r\n",
            "path": b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            "length": b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
            "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
            "chunk": b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "garbage": bytes(random.Random(1).randrange(256) for _ in range(4096)) + b"\r\n\r\n"}
        outcomes = {what: raw(server, data) for what, data in lines.items()}
        assert not [what for what, outcome in outcomes.items() if outcome.startswith("2")], outcomes
        assert ask(server) == text
        return ", ".join(f"{what} {outcome}" for what, outcome in outcomes.items())


def raw(server, data):
    """Sends bytes; the status of the reply, or how the connection ended."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        try:
            client.sendall(data)
            reply = client.recv(4096)
        except OSError as error:
            return type(error).__name__
        return reply[9:12].decode(errors="replace") if reply else "closed"


@fault
def bad_adapters(scene):
    """Files that are no adapters, or not for this base, change nothing."""
    with scene.serve() as server:
        text, version, good = ask(server), listed(server)["version"], open(scene.source, "rb").read()
        before = server.resident_bytes()
        for what, data in spoiled(good).items():
            adapter_versions.put(scene.good, data)
            server.until(lambda: listed(server)["failure"], f"a failure of the file: {what}", 20)
            assert listed(server)["version"] == version and ask(server) == text, what
            assert scene.folder not in listed(server)["failure"], "a path of the server"
            scene.restore()
            server.until(lambda: not listed(server)["failure"], f"no failure after: {what}", 20)
        adapter_versions.pack(scene.good, adapter_versions.foreign(scene.contents))
        failure = server.until(lambda: listed(server)["failure"], "a failure of the foreign adapter", 20)
        adapter_versions.bomb(scene.good)
        server.until(lambda: listed(server)["failure"] not in (None, failure), "a failure of the bomb", 60)
        assert ask(server) == text
        grown = server.resident_bytes() - before
        assert grown < 64 << 20, f"{grown >> 20} MiB more"
        return f"{grown >> 20} MiB more; the foreign one: {failure[:120]}"


def spoiled(good):
    """Files that are not the good one any more."""
    generator, files = random.Random(7), {"empty": b"", "half": good[:len(good) // 2], "short": good[:-1],
                                          "text": b"not an archive\n" * 100, "directory only": good[-2000:]}
    for seed in range(6):
        data = bytearray(good)
        for _ in range(20):
            data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        files[f"bits {seed}"] = bytes(data)
    return files


@fault
def odd_files(scene):
    """What is no file, or not inside the directory, is not served, and holds nothing up."""
    with scene.serve() as server:
        text = ask(server)
        inside = lambda name: os.path.join(scene.adapters, name)  # noqa: E731
        os.mkfifo(inside("pipe.lora"))
        os.mkdir(inside("folder.lora"))
        os.symlink("/etc/passwd", inside("outside.lora"))
        os.symlink(scene.source, inside("link.lora"))
        os.symlink("loop.lora", inside("loop.lora"))
        with open(inside("sparse.lora"), "wb") as file:
            file.truncate(20 << 30)
        for _ in range(200):
            shutil.copyfile(scene.source, inside("vanishing.lora"))
            os.remove(inside("vanishing.lora"))
        scene.restore()
        assert ask(server) == text
        for name in ("pipe", "folder", "outside", "loop", "sparse", "vanishing", "../good", "/etc/passwd", "good\0"):
            reply = server.send("POST", CHAT, {"model": name, "messages": ASK}, timeout=30)
            assert 400 <= reply.status < 500, f"{name}: {reply.status}"
            assert b"/etc" not in reply.data.replace(name.encode(), b""), reply.data
        assert ask(server) == text


@fault
def retired(scene):
    """A file that goes: what runs on it ends, then there is no such model; it comes back with its file."""
    with scene.serve() as server:
        text = ask(server)
        client = begin(server, tokens=60, model="good")
        read_until(client, (b"data:", 3))
        os.remove(scene.good)
        server.until(lambda: server.send("POST", CHAT, {"model": "good", "messages": ASK}).status == 404, "404", 20)
        read_until(client, (b"data: [DONE]", 1))
        scene.restore()
        server.until(lambda: listed(server), "the adapter to be back", 20)
        assert ask(server) == text
        shutil.rmtree(scene.adapters)
        time.sleep(1)
        status = server.send("POST", CHAT, {"model": "good", "messages": ASK, "max_tokens": 4}).status
        assert status in (200, 404) and answers(server)
        return f"after the directory went too: {status}"


@fault
def lost_events(scene):
    """More changes than the kernel keeps (the server is stopped meanwhile): the last version is served all the same."""
    with scene.serve() as server:
        version = listed(server)["version"]
        with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as file:
            events = int(file.read())
        server.process.send_signal(signal.SIGSTOP)
        names = [os.path.join(scene.adapters, f".{i}") for i in range(2)]
        for index in range(events + 1000):
            with open(names[index % 2], "wb"):
                pass
        adapter_versions.pack(scene.good, adapter_versions.scaled(scene.contents, 0.5))
        server.process.send_signal(signal.SIGCONT)
        server.until(lambda: listed(server)["version"] != version, "the new version", 30)
        return f"{events + 1000} events"


@fault
def base_truncated(scene):
    """A base cut short under the map: errors, then an end that a supervisor sees, never a wrong answer."""
    base = os.path.join(scene.folder, "base.bin")
    shutil.copyfile(scene.base, base)
    with scene.serve(base=base) as server:
        texts = {tokens: ask(server, max_tokens=tokens) for tokens in (8, 16)}
        os.truncate(base, os.path.getsize(base) // 2)
        outcomes = []
        for tokens in (8, 16, 8):
            try:
                reply = server.send("POST", CHAT, {"model": "good", "messages": ASK, "temperature": 0, "max_tokens": tokens})
                outcomes.append(reply.status)
                if reply.status == 200:
                    assert json.loads(reply.data)["choices"][0]["message"]["content"] == texts[tokens], "a wrong answer"
            except (OSError, http.client.HTTPException) as error:
                outcomes.append(type(error).__name__)
        status = server.process.wait(60)
        assert status == 1, f"ended with status {status}"
        return f"{outcomes}, then exit status {status}"


@fault
def base_replaced(scene):
    """Another file in the base's place, as `lora merge` writes it: the mapped one answers on."""
    base = os.path.join(scene.folder, "base.bin")
    shutil.copyfile(scene.base, base)
    with scene.serve(base=base) as server:
        text = ask(server)
        with open(base + ".new", "wb") as file:
            file.write(b"another file")
        os.replace(base + ".new", base)
        version = listed(server)["version"]
        adapter_versions.pack(scene.good, adapter_versions.scaled(scene.contents, 0.5))
        server.until(lambda: listed(server)["version"] != version, "another version for the mapped base", 20)
        scene.restore()
        server.until(lambda: listed(server)["version"] == version, "the first version again", 20)
        assert ask(server) == text


@fault
def disk_full(scene):
    """No space for a new version: the old one is served."""
    disk = os.path.join(scene.folder, "full")
    os.mkdir(disk)
    size = os.path.getsize(scene.source)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size * 3 // 2}", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        return "NOT TRIED: this machine does not allow to mount a small disk"
    try:
        shutil.copyfile(scene.source, os.path.join(disk, "good.lora"))
        scene.adapters = disk
        with scene.serve() as server:
            text = ask(server)
            try:
                shutil.copyfile(scene.source, os.path.join(disk, "other.lora"))
                raise AssertionError("the disk is not full")
            except OSError:
                pass
            time.sleep(1)
            assert ask(server) == text
            reply = server.send("POST", CHAT, {"model": "other", "messages": ASK})
            assert reply.status >= 400, "half an adapter answers"
            return f"half an adapter is {reply.status}"
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


@fault
def many_at_once(scene):
    """More requests than the queue takes are told when to come back; the others are all answered alike."""
    with scene.serve("--max-sequences", "4") as server:
        text, replies = ask(server), []

        def one():
            reply = server.send("POST", CHAT, {"model": "good", "messages": ASK, "temperature": 0, "max_tokens": 24})
            replies.append((reply.status, reply.headers["Retry-After"], reply.data))

        threads = [threading.Thread(target=one) for _ in range(300)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses = [status for status, _, _ in replies]
        assert set(statuses) == {200, 429}, set(statuses)
        assert all(retry for status, retry, _ in replies if status == 429)
        assert {json.loads(data)["choices"][0]["message"]["content"] for s, _, data in replies if s == 200} == {text}
        idle(server)
        return f"{statuses.count(200)} answered, {statuses.count(429)} told to come back"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("lora", "base", "adapter"):
        parser.add_argument(name)
    parser.add_argument("--only", nargs="*", help="names of faults")
    options = parser.parse_args()
    failures = 0
    for function in FAULTS:
        if options.only and function.__name__ not in options.only:
            continue
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="lora-faults-", ignore_cleanup_errors=True) as folder:
            try:
                holds, figure = True, function(Scene(options, folder))
            except Exception as error:  # noqa: BLE001: whatever a fault dies of is its failure
                line = error.__traceback__.tb_next.tb_lineno
                holds, figure = False, f"line {line}: {type(error).__name__}: {error}"
        failures += not holds
        name = function.__name__.replace("_", " ")
        print(f"{'holds' if holds else 'FAILS'}  {name} ({time.monotonic() - begun:.1f} s): {figure or 'as it should'}",
              flush=True)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
