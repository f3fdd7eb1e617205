#!/usr/bin/env python3
"""Writes what `lora --help` says as a man page or as Documentation/commands.md, with the standard library only.

    lora --experimental-dump-help | python3 Scripts/command_pages.py man > lora.1
    lora --experimental-dump-help | python3 Scripts/command_pages.py markdown > Documentation/commands.md

Both come from the argument parser's own description of the commands, so they say what the built command says.
"""
import json
import re
import sys

EXIT = [("0", "done"), ("1", "refused or failed; one line on standard error says what, where, and what to do about it"),
        ("64", "wrong usage"), ("130", "interrupted")]
STREAMS = ("Progress, warnings and errors go to standard error, results to standard output; --json prints exactly one "
           "JSON object there. Sizes are such as 2GiB or 512MB, times such as 30s.")


def shown(items):
    return [item for item in items or [] if item["shouldDisplay"]]


def arguments(command):
    """What the help shows; a flag and the one that takes it back are one entry."""
    merged = []
    for argument in shown(command.get("arguments")):
        last = merged[-1] if merged else argument
        if "names" in argument and argument["names"][0]["name"] == "no-" + last.get("names", [{"name": ""}])[0]["name"]:
            merged[-1] = {**last, "names": last["names"] + argument["names"]}
        else:
            merged.append(argument)
    return merged


def names(argument):
    """`--threads <n>`, `--shuffle/--no-shuffle`, or `<file>`."""
    value = f"<{argument.get('valueName', 'value')}>"
    if argument["kind"] == "positional":
        return value + (" ..." if argument["isRepeating"] else "")
    prefixes = {"long": "--", "short": "-", "longWithSingleDash": "-"}
    separator = "/" if argument["kind"] == "flag" and len(argument["names"]) > 1 else ", "
    if {name["kind"] for name in argument["names"]} != {"long"}:
        separator = ", "
    text = separator.join(prefixes[name["kind"]] + name["name"] for name in argument["names"])
    return text if argument["kind"] == "flag" else f"{text} {value}"


def explanation(argument):
    """The abstract, with what an option may be and what it is by default."""
    notes = []
    if values := argument.get("allValueStrings") or argument.get("allValues"):
        notes.append("values: " + ", ".join(values))
    if "defaultValue" in argument:
        notes.append(f"default: {argument['defaultValue']}")
    elif not argument["isOptional"]:
        notes.append("required")
    text = argument.get("abstract", "")
    if argument["isRepeating"] and argument["kind"] == "option" and "several" not in text:
        notes.append("may be given several times")
    return (text + (f" ({'; '.join(notes)})" if notes else "")).strip()


def usage(path, command):
    words = [path]
    for argument in arguments(command):
        if argument["kind"] == "positional":
            words.append(names(argument) if not argument["isOptional"] else f"[{names(argument)}]")
        elif not argument["isOptional"]:
            words.append(names(argument))
    optional = any(a["isOptional"] and a["kind"] != "positional" for a in arguments(command))
    return " ".join(words + ["[options]"] * optional)


def subcommands(command):
    return [c for c in shown(command.get("subcommands")) if c["commandName"] != "help"]


def paragraphs(text):
    """Blocks of a discussion; lines that are indented are to be kept as they are."""
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines, kept = block.split("\n"), []
        while lines and not lines[0].startswith("  "):
            kept.append(lines.pop(0))
        yield " ".join(kept), lines


# Markdown

def markdown(root):
    lines = ["# Commands", "",
             "Made of `lora --help` by `make docs`; a test holds the two to each other.", "", STREAMS, "",
             "Exit status: " + ", ".join(f"{code} {meaning.split(';')[0]}" for code, meaning in EXIT) + ".", ""]
    commands = subcommands(root)
    lines += ["| command | what it does |", "| --- | --- |"]
    lines += [f"| [`lora {c['commandName']}`](#lora-{c['commandName']}) | {cell(c.get('abstract', ''))} |"
              for c in commands]
    for command in commands:
        path = f"lora {command['commandName']}"
        lines += ["", f"## {path}", "", command.get("abstract", ""), "", "```", usage(path, command), "```"]
        for text, example in paragraphs(command.get("discussion") or ""):
            lines += ["", text] if text else []
            lines += ["", "```", *(line.strip() if i == 0 else line[2:] for i, line in enumerate(example)), "```"] \
                if example else []
        options = [a for a in arguments(command)
                   if not {n["name"] for n in a.get("names", [])} & {"help", "version"}]
        if options:
            lines += ["", "| option | meaning |", "| --- | --- |"]
            lines += [f"| `{names(a)}` | {cell(explanation(a))} |" for a in options]
    return "\n".join(lines) + "\n"


def cell(text):
    return re.sub(r"([|<>*_])", r"\\\1", text.replace("\n", " "))


# man(7)

def roff(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


def man(root, version):
    lines = [f'.TH LORA 1 "" "lora {version}" "User Commands"', ".SH NAME",
             f"lora \\- {roff(root['abstract'].rstrip('.'))}",
             ".SH SYNOPSIS", ".B lora", "\\fIcommand\\fR [\\fIoptions\\fR]"]
    lines += [".SH DESCRIPTION", roff(STREAMS)]
    lines += [".SH COMMANDS"]
    for command in subcommands(root):
        path = f"lora {command['commandName']}"
        lines += [f".SS {roff(path)}", roff(command.get("abstract", "")), ".PP", ".nf", roff(usage(path, command)), ".fi"]
        for text, example in paragraphs(command.get("discussion") or ""):
            lines += [".PP", roff(text)] if text else []
            lines += [".PP", ".nf", *map(roff, example), ".fi"] if example else []
        for argument in arguments(command):
            lines += [".TP", f"\\fB{roff(names(argument))}\\fR", roff(explanation(argument))]
    lines += [".SH EXIT STATUS"]
    for code, meaning in EXIT:
        lines += [".TP", f"\\fB{code}\\fR", roff(meaning)]
    lines += [".SH ENVIRONMENT", ".TP", "\\fBSOURCE_DATE_EPOCH\\fR",
              roff("The day that lora train notes in an adapter, in seconds since 1970, so that an adapter can be made "
                   "again byte for byte.")]
    return "\n".join(lines) + "\n"


def main():
    kinds = ("man", "markdown")
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in kinds:
        sys.exit("usage: lora --experimental-dump-help | command_pages.py man|markdown [VERSION]")
    root = json.load(sys.stdin)["command"]
    sys.stdout.write(markdown(root) if sys.argv[1] == "markdown" else man(root, "".join(sys.argv[2:])))


if __name__ == "__main__":
    main()
