#!/usr/bin/env python3
"""Make the goldens of the chat templates with transformers' renderer.

    python3 Scripts/template_goldens.py

Reads Tests/LoRATextTests/Goldens/templates/*.jinja, template_conversations.json and template_snippets.json; writes
template_golden.json (every template with every conversation) and template_snippets_golden.json (every snippet with
the conversation below). Made with transformers 5.23 and jinja2 3.1.6. A text is what both must write; {"raise": …} is
raise_exception with its message; {"error": true} is any other refusal.
"""
import json

from compare_templates import CONVERSATIONS, oracle, variables_of

GOLDENS = CONVERSATIONS.parent
SNIPPET_CONVERSATION = {
    "messages": [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": "A"},
    ]
}


def golden(template, conversation):
    kind, text = oracle(template, variables_of(conversation))
    return text if kind == "text" else {"raise": text} if kind == "raise" else {"error": True}


def write(name, value):
    text = json.dumps(value, ensure_ascii=False, indent=0)
    (GOLDENS / name).write_text(text + "\n", "utf-8")


def main():
    conversations = json.loads(CONVERSATIONS.read_text("utf-8"))
    templates = sorted((GOLDENS / "templates").glob("*.jinja"))
    write(
        "template_golden.json",
        {
            path.stem: {name: golden(path.read_text("utf-8"), value) for name, value in conversations.items()}
            for path in templates
        },
    )
    snippets = json.loads((GOLDENS / "template_snippets.json").read_text("utf-8"))
    write("template_snippets_golden.json", [golden(snippet, SNIPPET_CONVERSATION) for snippet in snippets])


if __name__ == "__main__":
    main()
