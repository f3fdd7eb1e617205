#!/usr/bin/env python3
"""Starts `lora serve-adapter` on a free port, runs a command against it, and ends it.

    python3 Scripts/with_server.py .build/release/lora models/base.bin adapters -- \\
        python3 Scripts/serve_check.py {url}

`{url}` in the command becomes the server's address; its environment has LORA_API_KEY, a key that may do everything. The exit
status is the command's, or 1 if the server does not start or does not end with status 0.
"""
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time


class Server:
    """A server process with its own keys file, in a temporary directory."""

    def __init__(self, lora, base, adapters, *options):
        self.folder = tempfile.mkdtemp(prefix="lora-serve-")
        self.command = [lora, "serve-adapter", "--base", base, "--adapters", adapters, "--port", "0", *options]
        keys = os.path.join(self.folder, "keys.yaml")
        self.key = subprocess.run(
            [lora, "serve-adapter", "--keys", keys, "--new-key", "operations"], check=True, capture_output=True,
            text=True).stdout.split()[-1]
        allow_everything(keys)
        self.command += ["--keys", keys]
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise

    def start(self):
        self.log = os.path.join(self.folder, "log")
        with open(self.log, "w", encoding="utf-8") as file:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        started = time.monotonic()
        self.port = int(self.until(lambda: re.search(r"https?://[^\s/]*:(\d+)", self.logged()), "an address")[1])
        self.until(self.is_ready, "GET /ready to be 200")
        self.seconds_to_start = time.monotonic() - started

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def logged(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def until(self, condition, what, seconds=300):
        end = time.monotonic() + seconds
        while not (value := condition()):
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with status {self.process.returncode}:\n{self.logged()[-2000:]}")
            if time.monotonic() > end:
                raise RuntimeError(f"waited {seconds} s for {what}:\n{self.logged()[-2000:]}")
            time.sleep(0.02)
        return value

    def is_ready(self):
        try:
            return self.get("/ready").status == 200
        except OSError:
            return False

    def connection(self, timeout=300):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def send(self, method, path, body=None, headers=None, timeout=300):
        """The reply; `.data` is its body. A body that is not bytes goes as JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection = self.connection(timeout)
        try:
            try:
                connection.request(method, path, body, {
                    "Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **(headers or {})})
            except (BrokenPipeError, ConnectionResetError):
                pass  # The server may answer a request before it has read all of it.
            reply = connection.getresponse()
            reply.data = reply.read()
            return reply
        finally:
            connection.close()

    def get(self, path):
        return self.send("GET", path)

    def gauge(self, name):
        """The sum of a metric over its labels; 0 if it was never set."""
        text = self.get("/metrics").data.decode()
        values = re.findall(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
        return sum(float(value) for value in values)

    def resident_bytes(self, kind="RssAnon"):
        """Memory of the process's own; the mapped base is not part of it."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(rf"{kind}:\s+(\d+) kB", file.read())[1]) << 10

    def stop(self, number=signal.SIGTERM, seconds=300):
        """Ends the process; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


def allow_everything(path):
    """Gives the only entry of a keys file every adapter and the administrator's routes."""
    with open(path, encoding="utf-8") as file:
        lines = [line for line in file.read().splitlines() if not re.match(r"\s*(adapters|admin):", line)]
    index, indent = next((i, m[1]) for i, m in ((i, re.match(r"(\s+)hash:", line)) for i, line in enumerate(lines)) if m)
    lines[index + 1:index + 1] = [f'{indent}adapters: ["*"]', f"{indent}admin: true"]
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def main():
    arguments = sys.argv[1:]
    if arguments.count("--") != 1 or arguments.index("--") < 3:
        sys.exit(__doc__)
    split = arguments.index("--")
    with Server(*arguments[:split]) as server:
        command = [part.replace("{url}", server.url) for part in arguments[split + 1:]]
        status = subprocess.run(command, env={**os.environ, "LORA_API_KEY": server.key}).returncode
        ended = server.stop()
        if status or ended:
            print(server.logged()[-4000:], file=sys.stderr)
        if ended:
            print(f"The server ended with status {ended}.", file=sys.stderr)
        sys.exit(status or (1 if ended else 0))


if __name__ == "__main__":
    main()
