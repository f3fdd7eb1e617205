"""Asks a live server, and says how good the answers are."""
import concurrent.futures
import dataclasses
import json
import statistics
import time

STREAMS = 16


@dataclasses.dataclass(frozen=True)
class Reply:
    text: str
    prompt_tokens: int
    milliseconds: float


def ask(server, model, messages, max_tokens):
    """The greedy answer, as a client gets it whole; every domain's answers are one line."""
    started = time.monotonic()
    reply = server.send("POST", "/v1/chat/completions", {
        "model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0, "stop": ["\n"]},
        timeout=3600)
    milliseconds = 1000 * (time.monotonic() - started)
    body = json.loads(reply.data)
    if reply.status != 200:
        raise RuntimeError(f"{model} answered with status {reply.status}: {body['error']['message']}")
    return Reply(body["choices"][0]["message"]["content"].strip(), body["usage"]["prompt_tokens"], milliseconds)


def ask_all(server, model, prompts, max_tokens):
    """Replies in the order of `prompts`. The first goes alone, so that the others find the beginning they share."""
    first = ask(server, model, prompts[0], max_tokens)
    with concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
        return [first, *pool.map(lambda prompt: ask(server, model, prompt, max_tokens), prompts[1:])]


def edit_distance(found, expected):
    """Insertions, deletions and substitutions between two sequences (Levenshtein)."""
    row = list(range(len(expected) + 1))
    for i, item in enumerate(found, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(expected, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (item != other))
    return row[-1]


def score(domain, answers, expected):
    """Share of exact answers; where answers are phonemes, also edits per expected phoneme, stress included."""
    result = {"rows": len(expected), "accuracy": sum(map(str.__eq__, answers, expected)) / len(expected)}
    if domain.counts_phonemes:
        edits = sum(edit_distance(a.split(), e.split()) for a, e in zip(answers, expected))
        result["phoneme_error_rate"] = edits / sum(len(e.split()) for e in expected)
    return result


def measure(server, domain, model, prompt, rows):
    replies = ask_all(server, model, [prompt(question) for question, _ in rows], domain.max_tokens)
    return {**score(domain, [reply.text for reply in replies], [answer for _, answer in rows]),
            "prompt_tokens": statistics.mean(reply.prompt_tokens for reply in replies)}


def milliseconds(server, domain, model, prompt, rows):
    """Median time of one request after another. Two requests before are not counted."""
    times = [ask(server, model, prompt(question), domain.max_tokens).milliseconds for question, _ in rows]
    return statistics.median(times[2:])
