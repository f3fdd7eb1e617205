#!/usr/bin/env python3
"""Compare the chat templates of a directory, rendered by `lora` and by transformers, byte for byte.

    python3 Scripts/compare_templates.py TEMPLATES --base models/base.bin [--lora .build/release/lora]

TEMPLATES is a directory of .jinja files. Each is rendered with every conversation of
Tests/LoRATextTests/Goldens/template_conversations.json. Needs transformers and jinja2 (tested with 5.23 and 3.1.6).
Both refusing counts as equal; when the template itself refuses (raise_exception) the messages must agree too.
Real templates: `vendor/llama.cpp/models/templates/` in the source package of llama-cpp-python on PyPI.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONVERSATIONS = ROOT / "Tests/LoRATextTests/Goldens/template_conversations.json"


def variables_of(conversation):
    """What both sides are given: the conversation, with the tokens that a template may ask for."""
    return {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True, **conversation}


def oracle(template, variables):
    """("text", rendered), ("raise", message of raise_exception) or ("error", any other refusal)."""
    rest = {key: value for key, value in variables.items() if key not in ("messages", "tools", "documents")}
    try:
        rendered, _ = render_jinja_template(
            [variables["messages"]],
            tools=variables.get("tools"),
            documents=variables.get("documents"),
            chat_template=template,
            **rest,
        )
        return "text", rendered[0]
    except jinja2.exceptions.TemplateError as error:
        return ("raise" if type(error) is jinja2.exceptions.TemplateError else "error"), str(error)
    except Exception as error:  # a TypeError in the template is a refusal like any other
        return "error", f"{type(error).__name__}: {error}"


class Command:
    """Renders with `lora tokenize`, one process for each rendering."""

    def __init__(self, lora, base):
        self.lora, self.base = lora, base

    def __call__(self, path, variables):
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            json.dump(variables, file, ensure_ascii=False)
            file.flush()
            arguments = ["tokenize", "--base", self.base, "--messages", file.name, "--template", str(path), "--text-only"]
            done = subprocess.run([self.lora, *arguments], capture_output=True)
        if done.returncode:
            return "error", done.stderr.decode("utf-8").strip()
        return "text", done.stdout.decode("utf-8")


class Batch:
    """Renders with a program that reads {"template", "variables"} and writes {"text"} or {"error"}, a line each."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, path, variables):
        job = json.dumps({"template": str(path), "variables": variables}, ensure_ascii=False)
        self.process.stdin.write(job.encode("utf-8") + b"\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return ("text", answer["text"]) if "text" in answer else ("error", f"line {answer['line']}: {answer['error']}")


def first_difference(expected, actual):
    at = next((i for i, pair in enumerate(zip(expected, actual)) if pair[0] != pair[1]), min(len(expected), len(actual)))
    return f"at {at}: expected {expected[at:at + 60]!r}, got {actual[at:at + 60]!r}"


def verdict(expected, actual):
    """("equal" | "refused" | "differs", explanation); refused means that both refuse."""
    if expected[0] == "text" and actual[0] == "text":
        return ("equal", "") if expected[1] == actual[1] else ("differs", first_difference(expected[1], actual[1]))
    if expected[0] == "text" or actual[0] == "text":
        return "differs", f"expected {expected[0]} {expected[1][:150]!r}, got {actual[0]} {actual[1][:150]!r}"
    if expected[0] == "raise" and expected[1] not in actual[1]:
        return "differs", f"expected the exception {expected[1]!r}, got {actual[1]!r}"
    return "refused", actual[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("templates", type=pathlib.Path)
    parser.add_argument("--lora", default=str(ROOT / ".build/release/lora"))
    parser.add_argument("--base", default=str(ROOT / "models/base.bin"))
    parser.add_argument("--batch", help="a program that renders line by line, in place of lora")
    parser.add_argument("--verbose", action="store_true", help="show what both sides refuse, too")
    options = parser.parse_args()
    render = Batch(options.batch) if options.batch else Command(options.lora, options.base)
    conversations = json.loads(CONVERSATIONS.read_text("utf-8"))
    counts = {"equal": 0, "refused": 0, "differs": 0}
    paths = sorted(options.templates.glob("*.jinja"))
    for path in paths:
        template = path.read_text("utf-8")
        for name, conversation in conversations.items():
            variables = variables_of(conversation)
            result, explanation = verdict(oracle(template, variables), render(path, variables))
            counts[result] += 1
            if result == "differs" or (options.verbose and result == "refused"):
                print(f"{result} {path.name} {name}: {explanation}")
    print(f"{len(paths)} templates x {len(conversations)} conversations: {counts['equal']} equal, "
          f"{counts['refused']} refused by both, {counts['differs']} differ")
    sys.exit(1 if counts["differs"] or not paths else 0)


if __name__ == "__main__":
    main()
