#!/usr/bin/env python3
"""Runs the nginx and HAProxy configurations of Documentation/serving-proxy.md in front of two replicas, on loopback.

    apt-get install nginx-light haproxy openssl
    python3 Scripts/serve_proxy_check.py .build/release/lora models/base.bin adapters

The blocks are taken as they stand there; only addresses, ports and file names are put in place. Through each proxy: an
answer streams as it is written, /metrics is hidden, and no request is lost while one replica after the other is told to end
and starts again. Prints a line per check; exits 1 if one fails.
"""
import argparse
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

from with_server import Server

PAGE = os.path.join(os.path.dirname(__file__), "..", "Documentation", "serving-proxy.md")
CHAT = "/v1/chat/completions"
STORY = [{"role": "user", "content": "Write a long story about a lighthouse and its keeper."}]


def block(language):
    with open(PAGE, encoding="utf-8") as file:
        return re.search(rf"```{language}\n(.*?)```", file.read(), re.DOTALL)[1]


def put(text, pattern, value):
    """The text with the pattern replaced, which has to be there."""
    text, count = re.subn(pattern, value, text)
    if not count:
        raise RuntimeError(f"the configuration has no {pattern}")
    return text


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Proxy:
    """A proxy's process, and how to ask it."""

    def __init__(self, name, folder, replicas):
        self.name, self.folder, self.port = name, folder, free_port()
        path = os.path.join(folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(getattr(self, name)(replicas))
        command = {"nginx": ["nginx", "-p", folder, "-c", path], "haproxy": ["haproxy", "-db", "-f", path]}[name]
        self.log = open(path + ".log", "w+", encoding="utf-8")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        end = time.monotonic() + 60
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                self.log.seek(0)
                raise RuntimeError(f"{name} does not answer:\n{self.log.read()[-2000:]}")
            time.sleep(0.1)

    def nginx(self, replicas):
        text = put(block("nginx"), r"listen 443", f"listen 127.0.0.1:{self.port}")
        text = put(text, r"/etc/nginx/lora\.(crt|key)", os.path.join(self.folder, r"tls.\1"))
        for address, replica in zip((r"10\.0\.0\.11:8080", r"10\.0\.0\.12:8080"), replicas):
            text = put(text, address, f"127.0.0.1:{replica.port}")
        folder = self.folder
        return (f"daemon off; user root; pid {folder}/nginx.pid; error_log {folder}/nginx.errors;\n"
                f"events {{}}\nhttp {{\naccess_log off; client_body_temp_path {folder}/bodies; proxy_temp_path {folder}/temp;\n"
                f"{text}}}\n")

    def haproxy(self, replicas):
        text = put(block("haproxy"), r"bind :443", f"bind 127.0.0.1:{self.port}")
        text = put(text, r"/etc/haproxy/lora\.pem", os.path.join(self.folder, "tls.pem"))
        for address, replica in zip((r"10\.0\.0\.11:8080", r"10\.0\.0\.12:8080"), replicas):
            text = put(text, address, f"127.0.0.1:{replica.port}")
        return text

    def connection(self):
        context = ssl.create_default_context(cafile=os.path.join(self.folder, "tls.crt"))
        context.check_hostname = False
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=600, context=context)

    def answers(self):
        try:
            return self.get("/ready") == 200
        except (OSError, http.client.HTTPException):
            return False

    def get(self, path):
        connection = self.connection()
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def stop(self):
        self.process.terminate()
        self.process.wait(60)
        self.log.close()

    def errors(self):
        """What the proxy said."""
        path = os.path.join(self.folder, self.name)
        files = [file for file in (path + ".log", path + ".errors") if os.path.exists(file)]
        return "".join(open(file, encoding="utf-8").read()[-4000:] for file in files)


def stream(connection, key, model, tokens):
    """The times at which the parts of an answer came."""
    body = {"model": model, "messages": STORY, "temperature": 0, "max_tokens": tokens, "stream": True}
    connection.request("POST", CHAT, json.dumps(body), {
        "Authorization": f"Bearer {key}", "Content-Type": "application/json"})
    reply = connection.getresponse()
    if reply.status != 200:
        raise RuntimeError(f"{reply.status} {reply.read()[:200]}")
    times, done = [], False
    for line in reply:
        if line.startswith(b"data: [DONE]"):
            done = True
        elif line.startswith(b"data: "):
            if b'"error"' in line:
                raise RuntimeError(line.decode())
            times.append(time.monotonic())
    if not done:
        raise RuntimeError("the stream broke off")
    return times


class Client(threading.Thread):
    """Asks again and again, whole and streamed, until it is told to end."""

    def __init__(self, proxy, key, model, ending):
        super().__init__(daemon=True)
        self.proxy, self.key, self.model, self.ending = proxy, key, model, ending
        self.answered, self.failures = 0, []

    def run(self):
        connection = self.proxy.connection()
        while not self.ending.is_set():
            try:
                stream(connection, self.key, self.model, 16)
                self.answered += 1
            except Exception as error:  # noqa: BLE001: every kind of failure counts
                self.failures.append(f"{type(error).__name__}: {error}")
                connection.close()
        connection.close()


def restart(replica):
    """As a supervisor does: told to end, waited for, started at the same port, waited for until it is ready."""
    replica.command[replica.command.index("--port") + 1] = str(replica.port)
    status = replica.stop()
    replica.start()
    return status


def check(proxy, replicas, model):
    key, results = replicas[0].key, []
    times = stream(proxy.connection(), key, model, 100)
    spread = (times[-1] - times[0]) / len(times)
    early = sum(time < times[0] + (times[-1] - times[0]) / 2 for time in times) / len(times)
    results.append(("an answer streams as it is written", len(times) > 50 and 0.2 < early < 0.8,
                    f"{len(times)} parts, one each {spread * 1000:.1f} ms, {early:.0%} of them in the first half of the time"))
    status = proxy.get("/metrics")
    results.append(("/metrics is hidden", status == 404, str(status)))
    ending, statuses = threading.Event(), []
    clients = [Client(proxy, key, model, ending) for _ in range(6)]
    for client in clients:
        client.start()
    for replica in replicas:
        time.sleep(4)
        statuses.append(restart(replica))
        time.sleep(4)
    ending.set()
    for client in clients:
        client.join()
    failures = [failure for client in clients for failure in client.failures]
    answered = sum(client.answered for client in clients)
    results.append(("no request is lost while replicas end and start", not failures and answered and statuses == [0, 0],
                    f"{answered} answered, {len(failures)} failed {failures[:2]}; exit statuses {statuses}"))
    for what, holds, figure in results:
        print(f"{'holds' if holds else 'FAILS'}  {proxy.name}: {what}: {figure}", flush=True)
    return all(holds for _, holds, _ in results)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("lora", "base", "adapters"):
        parser.add_argument(name)
    parser.add_argument("--only", nargs="*", choices=("nginx", "haproxy"), default=("nginx", "haproxy"))
    options = parser.parse_args()
    holds = True
    with tempfile.TemporaryDirectory(prefix="lora-proxy-") as folder:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=lora.example.com",
             "-keyout", f"{folder}/tls.key", "-out", f"{folder}/tls.crt"], check=True, capture_output=True)
        with open(f"{folder}/tls.pem", "wb") as pem:
            for name in ("crt", "key"):
                with open(f"{folder}/tls.{name}", "rb") as file:
                    shutil.copyfileobj(file, pem)
        with (Server(options.lora, options.base, options.adapters) as one,
              Server(options.lora, options.base, options.adapters) as other):
            # keys.yaml is the same on all replicas.
            keys = [replica.command[replica.command.index("--keys") + 1] for replica in (one, other)]
            shutil.copyfile(keys[0], keys[1])
            other.key = one.key
            restart(other)
            models = json.loads(one.get("/v1/models").data)["data"]
            model = next(model["id"] for model in models if not model["parent"])
            for name in options.only:
                proxy = Proxy(name, folder, (one, other))
                try:
                    passed = check(proxy, (one, other), model)
                finally:
                    proxy.stop()
                holds &= passed
                if not passed:
                    print(proxy.errors(), file=sys.stderr)
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
