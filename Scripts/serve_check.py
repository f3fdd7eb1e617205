#!/usr/bin/env python3
"""Asks a running server everything through OpenAI's own Python client, and asserts the answers.

    pip install openai
    python3 Scripts/serve_check.py http://127.0.0.1:8080 [--key KEY] [--adapter NAME]

Prints a line per check; exits 1 if one fails.
"""
import argparse
import concurrent.futures
import http.client
import json
import math
import os
import re
import sys
import time
import urllib.parse

import openai

ASK = [{"role": "user", "content": "set a timer for 12 minutes in the kitchen"}]
STORY = [{"role": "user", "content": "Write a long story about a lighthouse and its keeper."}]
RULES = [{"role": "system", "content": "Answer in one sentence. " + " ".join(f"Rule {i}: be brief." for i in range(60))},
         *ASK]
CHECKS = []


def check(function):
    """A check says by `assert` what must hold, and returns what is worth printing."""
    CHECKS.append(function)
    return function


class Target:
    """The server under test, and the base and an adapter it has."""

    def __init__(self, url, key, adapter):
        self.url, self.key = url.rstrip("/"), key
        self.client = openai.OpenAI(base_url=self.url + "/v1", api_key=key or "none", max_retries=0, timeout=600)
        models = self.client.models.list().data
        self.base = next(model.id for model in models if not getattr(model, "parent", None))
        adapters = [model.id for model in models if getattr(model, "parent", None)]
        self.adapter = adapter or adapters[0]

    def chat(self, messages=ASK, **fields):
        fields = {"model": self.adapter, "temperature": 0, "max_tokens": 24, **fields}
        return self.client.chat.completions.create(messages=messages, **fields)

    def complete(self, prompt, **fields):
        fields = {"model": self.base, "temperature": 0, "max_tokens": 8, **fields}
        return self.client.completions.create(prompt=prompt, **fields)

    def raw(self, method, path, body=None, headers=None):
        """Status, headers and JSON of a request that the client would not send."""
        parts = urllib.parse.urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.netloc, timeout=300)
        try:
            connection.request(method, path, body, {
                "Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **(headers or {})})
        except (BrokenPipeError, ConnectionResetError):
            pass  # The server may answer a request before it has read all of it.
        reply = connection.getresponse()
        text = reply.read()
        connection.close()
        return reply, json.loads(text) if text[:1] in (b"{", b"[") else text.decode()

    def running(self):
        reply, text = self.raw("GET", "/metrics")
        assert reply.status == 200, f"/metrics is {reply.status}"
        return sum(map(float, re.findall(r"^vllm:num_requests_running(?:\{.*\})? (\S+)$", text, re.MULTILINE)))


def refused(kind, call, param=None, code=None, word=None):
    """Whether `call` is refused as OpenAI refuses, with all four members of an error."""
    try:
        call()
    except kind as error:
        body = error.body if isinstance(error.body, dict) else {}
        assert {"message", "type", "param", "code"} <= body.keys(), f"members {sorted(body)}"
        assert param is None or error.param == param, f"param {error.param}, not {param}"
        assert code is None or error.code == code, f"code {error.code}, not {code}"
        assert word is None or word in body["message"], body["message"]
        return body["message"]
    raise AssertionError("not refused")


def joined(stream):
    """Chunks of a stream, and the text of each choice."""
    chunks, texts = list(stream), {}
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    return chunks, texts


@check
def models(to):
    listed = to.client.models.list()
    assert listed.object == "list"
    for model in listed.data:
        assert model.object == "model" and model.owned_by and isinstance(model.created, int)
        assert model.parent in (None, to.base) and ".lora" not in model.id
    assert to.client.models.retrieve(to.adapter).id == to.adapter
    refused(openai.NotFoundError, lambda: to.client.models.retrieve("there-is-none"), code="model_not_found")
    return f"{len(listed.data)} models"


@check
def chat(to):
    reply = to.chat()
    choice = reply.choices[0]
    assert reply.object == "chat.completion" and reply.id.startswith("chatcmpl-") and reply.model == to.adapter
    assert abs(reply.created - time.time()) < 3600 and reply.system_fingerprint
    assert choice.index == 0 and choice.message.role == "assistant" and choice.finish_reason in ("stop", "length")
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.usage.prompt_tokens_details.cached_tokens >= 0
    assert to.chat(model=to.base).system_fingerprint != reply.system_fingerprint
    return choice.message.content


@check
def length(to):
    for field in ("max_tokens", "max_completion_tokens"):
        reply = to.client.chat.completions.create(model=to.base, messages=STORY, temperature=0, **{field: 3})
        assert reply.choices[0].finish_reason == "length" and reply.usage.completion_tokens == 3


@check
def stream(to):
    whole = to.chat()
    chunks, texts = joined(to.chat(stream=True, stream_options={"include_usage": True}))
    assert texts == {0: whole.choices[0].message.content}
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert [bool(chunk.choices and chunk.choices[0].delta.role) for chunk in chunks] == [True] + [False] * (len(chunks) - 1)
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason and not chunks[-2].choices[0].delta.content
    assert all(chunk.choices[0].finish_reason is None for chunk in chunks[:-2])
    plain, _ = joined(to.chat(stream=True))
    assert plain[-1].choices[0].finish_reason, "without include_usage the finish is last"
    return f"{len(chunks)} chunks"


@check
def completions(to):
    first, second = "The capital of France is", "Water boils at"
    both = to.complete([first, second])
    assert both.object == "text_completion" and [choice.index for choice in both.choices] == [0, 1]
    for prompt, choice in zip((first, second), both.choices):
        assert to.complete(prompt).choices[0].text == choice.text
    text = "".join(chunk.choices[0].text for chunk in to.complete(first, stream=True) if chunk.choices)
    assert text == both.choices[0].text
    assert to.complete([504, 3575]).choices[0].text == to.complete([[504, 3575]]).choices[0].text
    return both.choices[0].text


def bytes_of(token):
    """A token of completions is its text, or names its bytes where they are a part of a character."""
    return bytes.fromhex(token[6:].replace("\\x", "")) if token.startswith("bytes:") else token.encode()


@check
def echo(to):
    prompt = "A naïve llama 🦙 says 日本語."
    reply = to.complete(prompt, echo=True, max_tokens=0, logprobs=2)
    logprobs = reply.choices[0].logprobs
    parts = [bytes_of(token) for token in logprobs.tokens]
    assert reply.choices[0].text == prompt == b"".join(parts).decode()
    assert logprobs.token_logprobs[0] is None and all(value <= 0 for value in logprobs.token_logprobs[1:])
    # A character counts with the token that completes it.
    assert logprobs.text_offset == [len(b"".join(parts[:i]).decode(errors="ignore")) for i in range(len(parts))]
    assert all(len(best) >= 2 for best in logprobs.top_logprobs[1:])
    longer = to.complete(prompt, echo=True, max_tokens=4).choices[0].text
    assert longer.startswith(prompt) and len(longer) > len(prompt)
    return f"{len(parts)} tokens, sum {sum(logprobs.token_logprobs[1:]):.3f}"


@check
def logprobs(to):
    choice = to.chat(logprobs=True, top_logprobs=3).choices[0]
    content = choice.logprobs.content
    assert "".join(token.token for token in content) == choice.message.content
    assert bytes(byte for token in content for byte in token.bytes).decode() == choice.message.content
    for token in content:
        best = [other.logprob for other in token.top_logprobs]
        assert len(best) == 3 and best == sorted(best, reverse=True) and token.logprob == best[0] <= 0
        assert sum(map(math.exp, best)) <= 1.00001
    streamed = [token for chunk in to.chat(logprobs=True, top_logprobs=3, stream=True)
                for one in chunk.choices if one.logprobs for token in one.logprobs.content]
    assert streamed == content, "streamed ones differ"
    reply = to.complete("Once upon a time", logprobs=2).choices[0]
    assert "".join(reply.logprobs.tokens) == reply.text


@check
def seeds(to):
    fields = {"model": to.base, "messages": STORY, "temperature": 1.2, "max_tokens": 12}
    texts = [to.chat(seed=seed, **fields).choices[0].message.content for seed in (1, 2, 3, 1)]
    assert texts[0] == texts[3], "the same seed answers otherwise"
    assert len(set(texts[:3])) > 1, "three seeds answer the same"
    assert len({to.chat(**fields).choices[0].message.content for _ in range(3)}) > 1, "no seed is one seed"


@check
def several(to):
    fields = {"model": to.base, "messages": STORY, "temperature": 1.2, "max_tokens": 12, "n": 3, "seed": 7}
    reply = to.chat(**fields)
    texts = [choice.message.content for choice in reply.choices]
    assert [choice.index for choice in reply.choices] == [0, 1, 2] and len(set(texts)) > 1
    assert reply.usage.completion_tokens <= 36
    assert joined(to.chat(stream=True, **fields))[1] == dict(enumerate(texts))


@check
def stops(to):
    text = to.chat(STORY, model=to.base, max_tokens=40).choices[0].message.content
    stop = text[len(text) // 2:len(text) // 2 + 3]
    for given in (stop, ["never seen", stop]):
        choice = to.chat(STORY, model=to.base, max_tokens=40, stop=given).choices[0]
        assert choice.message.content == text[:text.index(stop)] and choice.finish_reason == "stop"
    assert joined(to.chat(STORY, model=to.base, max_tokens=40, stop=stop, stream=True))[1][0] == text[:text.index(stop)]
    return repr(stop)


@check
def biases(to):
    tokens = to.chat(logit_bias={"504": 100}, max_tokens=4, logprobs=True).choices[0].logprobs.content
    assert len({token.token for token in tokens}) == 1 and len(tokens) == 4
    first = to.chat(STORY, model=to.base, max_tokens=30, frequency_penalty=2, presence_penalty=2)
    assert first.choices[0].message.content != to.chat(STORY, model=to.base, max_tokens=30).choices[0].message.content
    to.chat(top_p=0.9, extra_body={"top_k": 5, "min_p": 0.05}, temperature=0.7)


@check
def wrong_fields(to):
    bad = openai.BadRequestError
    refused(bad, lambda: to.chat(temperature=3), param="temperature")
    refused(bad, lambda: to.chat(top_p=0), param="top_p")
    refused(bad, lambda: to.chat(n=1000), param="n")
    refused(bad, lambda: to.chat(max_tokens=-1), param="max_tokens")
    refused(bad, lambda: to.chat(max_tokens=10**8), code="context_length_exceeded")
    refused(bad, lambda: to.chat(logit_bias={"99999999": 1}), param="logit_bias")
    refused(bad, lambda: to.chat([]), param="messages")
    refused(bad, lambda: to.chat([{"role": "robot", "content": "x"}]), word="robot")
    image = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    refused(bad, lambda: to.chat([{"role": "user", "content": image}]))
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    refused(bad, lambda: to.chat(tools=[tool]), param="tools")
    refused(bad, lambda: to.chat(response_format={"type": "json_object"}), param="response_format")
    refused(bad, lambda: to.complete("x", best_of=3), param="best_of")
    return refused(bad, lambda: to.chat(extra_body={"colour": "blue"}), word="colour")


@check
def not_there(to):
    refused(openai.NotFoundError, lambda: to.chat(model="there-is-none"), param="model", code="model_not_found")
    refused(openai.NotFoundError, lambda: to.client.embeddings.create(model=to.base, input="x"))
    if to.key:
        for key in ("lora-wrong", "x" * 5000):
            other = openai.OpenAI(base_url=to.url + "/v1", api_key=key, max_retries=0)
            refused(openai.AuthenticationError, lambda: other.models.list())


@check
def raw_requests(to):
    path = "/v1/chat/completions"
    for body in (b"", b"{", b"[]", b'{"model": "\xff"}', b'{"model": 1}', b"[" * 100_000):
        reply, error = to.raw("POST", path, body)
        assert reply.status == 400 and {"message", "type", "param", "code"} <= error["error"].keys(), body[:20]
    reply, error = to.raw("GET", path)
    assert reply.status == 405 and error["error"]["message"]
    reply, error = to.raw("POST", path, b" " * (5 << 20))
    assert reply.status == 413 and error["error"]["message"]
    for there in ("/health", "/ready"):
        assert to.raw("GET", there)[0].status == 200
    reply, page = to.raw("GET", "/")
    assert reply.headers["Content-Type"].startswith("text/html") and "<title>" in page
    assert "default-src 'none'" in reply.headers["Content-Security-Policy"]


@check
def cancelled(to):
    for _ in range(5):
        stream = to.chat(STORY, model=to.base, max_tokens=2000, stream=True)
        for _, _chunk in zip(range(3), stream):
            pass
        stream.close()
    begun = time.monotonic()
    while to.running():
        assert time.monotonic() - begun < 300, "requests of clients that went away still run"
        time.sleep(0.02)
    return f"all ended after {time.monotonic() - begun:.2f} s"


@check
def company(to):
    """16 at a time, on the adapter and the base by turns, get the bits that they get alone."""
    def ask(index):
        reply = to.chat(ASK, model=(to.adapter, to.base)[index % 2], max_tokens=16, logprobs=True, top_logprobs=2)
        return [(token.token, token.logprob) for token in reply.choices[0].logprobs.content]

    alone = [ask(0), ask(1)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for index, tokens in enumerate(pool.map(ask, range(16))):
            assert tokens == alone[index % 2], f"request {index} got other log-probabilities"


@check
def cached_prefix(to):
    """A, B, A: the third answer uses what the first computed, and is the same."""
    def ask(model):
        reply = to.chat(RULES, model=model, max_tokens=12, logprobs=True)
        tokens = [(token.token, token.logprob) for token in reply.choices[0].logprobs.content]
        return tokens, reply.usage.prompt_tokens_details.cached_tokens, reply.usage.prompt_tokens

    first, other, third = ask(to.adapter), ask(to.base), ask(to.adapter)
    assert third[0] == first[0] != other[0]
    assert third[1] > 0, "nothing was cached"
    return f"{third[1]} of {third[2]} tokens cached"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--key", default=os.environ.get("LORA_API_KEY", ""))
    parser.add_argument("--adapter")
    parser.add_argument("--only", nargs="*", help="names of checks")
    options = parser.parse_args()
    to, failures = Target(options.url, options.key, options.adapter), 0
    for function in CHECKS:
        if options.only and function.__name__ not in options.only:
            continue
        begun = time.monotonic()
        try:
            holds, figure = True, function(to)
        except Exception as error:  # noqa: BLE001: whatever a check dies of is its failure
            line = error.__traceback__.tb_next.tb_lineno if error.__traceback__.tb_next else 0
            holds, figure = False, f"line {line}: {type(error).__name__}: {error}"
        failures += not holds
        name = function.__name__.replace("_", " ")
        figure = "" if figure is None else f": {str(figure)[:300]}"
        print(f"{'holds' if holds else 'FAILS'}  {name} ({time.monotonic() - begun:.1f} s){figure}", flush=True)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
