#!/usr/bin/env python3
"""Builds datasets/smart-home (utterance -> intent and slots) from Home Assistant's English intent templates.

    pip install home-assistant-intents==2026.10.27 hassil==3.12.1
    python Scripts/build_smart_home.py datasets/smart-home

The same package versions and seed give the same bytes. A row is kept only when `hassil.recognize_best` reads the
utterance as the sampler meant it. The splits share no template and no utterance; a template is held out only when
another one with the same intent and the same combination of slots stays in the training split.
"""
import importlib.metadata
import json
import random
import re
import sys
from pathlib import Path

import hassil
import home_assistant_intents
from hassil.expression import Alternative, Group, ListReference, Permutation, RuleReference, TextChunk
from hassil.intents import Intents, RangeSlotList, TextSlotList, WildcardSlotList
from hassil.numbers import get_rbnf_engine
from hassil.parse_expression import parse_sentence

import smart_home_values as values
from smart_home_speech import (
    DETERMINERS, IMPERATIVES, POLITE_AFTER, POLITE_BEFORE, PREPOSITIONS, SPOKEN_RULES, UNNATURAL, VERBS)

SEED = 20261027
VERSIONS = {"home-assistant-intents": "2026.10.27", "hassil": "3.12.1"}
ROWS = {"train": 2000, "valid": 200, "test": 400}
# At most so many rows from one template: an intent with few templates must not repeat them endlessly.
ROWS_PER_TEMPLATE = {"train": 24, "valid": 6, "test": 8}
HELD_OUT = {"test": 0.22, "valid": 0.09}
ATTEMPTS = 80


class Sampler:
    """Draws utterances, with the slots they carry, from hassil's template expressions."""

    def __init__(self, intents, slot_lists, generator):
        self.intents = intents
        self.slot_lists = slot_lists
        self.random = generator
        self.engine = get_rbnf_engine("en")
        self.spoken = {name: parse_sentence(body) for name, body in SPOKEN_RULES.items()}

    def sample(self, sentence, data):
        """Returns (utterance, slots); the utterance may be unnatural, or ambiguous to the recogniser."""
        self.data, self.text, self.slots, self.media_class = data, sentence.text, {}, None
        text = spoken_durations(re.sub(r"\s+", " ", self.expand(sentence.expression)).strip())
        text = re.sub(r"\b(in|on) (the |my )?(upstairs|downstairs)$", r"\3", text)
        slots = dict(self.slots)
        for name, value in data.slots.items():
            slots.setdefault(name, value)
        return text, slots

    def expand(self, expression):
        if isinstance(expression, TextChunk):
            return expression.original_text
        if isinstance(expression, Alternative):
            return self.expand(self.alternative(expression))
        if isinstance(expression, Permutation):
            items = list(expression.items)
            self.random.shuffle(items)
            return " ".join(self.expand(item) for item in items)
        if isinstance(expression, Group):
            return "".join(self.expand(item) for item in expression.items)
        if isinstance(expression, RuleReference):
            return self.expand_rule(expression.rule_name)
        if isinstance(expression, ListReference):
            return self.expand_list(expression)
        raise TypeError(expression)

    def alternative(self, expression):
        items = expression.items
        if expression.is_optional:
            words = {word for item in items for word in self.words_of(item)}
            likelihood = 0.5
            if words <= {"s", "es"} and self.wants_plural():
                likelihood = 1
            elif words & PREPOSITIONS and words <= PREPOSITIONS | DETERMINERS:
                likelihood = 1
            elif words <= DETERMINERS or words <= VERBS:
                likelihood = 0.8
            said = [item for item in items if self.words_of(item)]
            silent = [item for item in items if not self.words_of(item)]
            if said and silent:
                return self.random.choice(said if self.random.random() < likelihood else silent)
        return self.random.choice(items)

    @classmethod
    def words_of(cls, item):
        """The words an item may begin with or consist of; a rule counts as its name in angle brackets."""
        if isinstance(item, TextChunk):
            return item.original_text.split()
        if isinstance(item, RuleReference):
            return [f"<{item.rule_name}>"]
        if isinstance(item, ListReference):
            return [f"{{{item.list_name}}}"]
        return [word for part in item.items for word in cls.words_of(part)]

    def wants_plural(self):
        """States are asked of several devices at once, and `all` goes before a plural."""
        return "<are_" in self.text or "<which>" in self.text or "<how_many>" in self.text or "<all>" in self.text

    def expand_rule(self, name):
        if name == "is":
            # In the templates <is> agrees with one name, or with a plural of devices.
            return "is" if "{name}" in self.text else "are"
        rule = self.spoken.get(name) or self.data.expansion_rules.get(name) or self.intents.expansion_rules[name]
        return self.expand(rule.expression)

    def expand_list(self, reference):
        name, slot = reference.list_name, reference.slot_name
        entries = self.data.slot_lists.get(name) or self.slot_lists[name]
        if isinstance(entries, RangeSlotList):
            return self.number(name, slot, entries)
        if isinstance(entries, WildcardSlotList):
            text = self.free_text(name)
            self.slots[slot] = text
            return text
        candidates = entries.values
        if name == "name":
            domains = self.data.requires_context.get("domain")
            item = self.slots.get("item")
            if item is not None:
                candidates = [entry for entry in candidates if item in values.TODO.get(entry.value_out, [])]
            lit = "{name} <light>" in self.text
            candidates = [
                entry for entry in candidates
                if domains and entry.context["domain"] in domains and (entry.value_out in values.LIT_THINGS) == lit
            ]
        entry = self.random.choice(candidates)
        if name == "media_class":
            self.media_class = self.media_class_for(entry.value_out)
            entry = next(e for e in candidates if e.value_out == self.media_class)
        self.slots[slot] = entry.value_out
        return self.expand(entry.text_in)

    def media_class_for(self, drawn):
        query = self.slots.get("search_query")
        return next((kind for kind, titles in values.MEDIA.items() if query in titles), drawn)

    def free_text(self, name):
        if name == "search_query":
            kind = self.media_class or self.random.choice(list(values.MEDIA))
            return self.random.choice(values.MEDIA[kind])
        return self.random.choice({
            "message": values.MESSAGES, "zone": values.ZONES, "timer_name": values.TIMER_NAMES,
            "timer_command": values.COMMANDS, "shopping_list_item": values.SHOPPING,
            "todo_list_item": sorted({item for items in values.TODO.values() for item in items}),
        }[name])

    def number(self, name, slot, entries):
        low, high, step = values.NUMBERS[name]
        value = self.random.randrange(low, high + 1, step)
        half = name == "temperature" and self.random.random() < 0.15
        words = not half and value < 1000 and self.random.random() < 0.12
        shown = value + 0.5 if half else value
        self.slots[slot] = plain(shown * (entries.multiplier or 1))
        return self.engine.format_number(value).text if words else str(shown)


DURATION = re.compile(r"\b(?P<count>\d+|[a-z]+(?:-[a-z]+)?)(?P<gap>[ -])(?P<unit>hour|minute|second)s?\b"
                      r"(?=(?P<tail>(?: (?:and )?(?:\d+|[a-z-]+?)[ -](?:hour|minute|second)s?)* timer)?)")


def spoken_durations(text):
    """Makes units agree: "1 minute", "5 minutes", "a 5-minute timer", "2 and a half hours", "half an hour"."""
    def agree(match):
        count, gap, unit = match["count"], match["gap"], match["unit"]
        if count in ("the", "my", "on", "in"):
            return match[0]
        if match["tail"] is not None:
            return f"{count}{gap}{unit}"
        return f"{count} {unit}" if count in ("1", "one", "a", "an") else f"{count} {unit}s"
    return DURATION.sub(agree, text)


def plain(value):
    """Whole numbers become integers; everything else stays."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def household_lists(intents):
    """The slot lists of the templates and of the imagined household."""
    names = [(name, name, {"domain": domain}) for domain, names in values.NAMES.items() for name in names]
    return {
        **intents.slot_lists,
        "area": TextSlotList.from_strings(values.AREAS, allow_template=False, name="area"),
        "floor": TextSlotList.from_strings(values.FLOORS, allow_template=False, name="floor"),
        "name": TextSlotList.from_tuples(names, allow_template=False, name="name"),
    }


def load_intents():
    for package, version in VERSIONS.items():
        if importlib.metadata.version(package) != version:
            sys.exit(f"need {package}=={version}, found {importlib.metadata.version(package)}")
    source = home_assistant_intents.get_intents("en")
    for intent in source["intents"].values():
        for data in intent["data"]:
            # The speaker's room is known to Home Assistant but is not in the utterance, so no slot may need it.
            required = data.get("requires_context", {})
            if required.get("area") == {"slot": True}:
                del required["area"]
    return Intents.from_dict(source)


def is_natural(text, intent, slots):
    if any(pattern.search(text) for pattern in UNNATURAL):
        return False
    name, state = slots.get("name"), slots.get("state")
    if name in values.NAMES["binary_sensor"] and state is not None:
        opening = re.search(r"\b(open|closed|shut)\b", text) is not None
        if opening != (name in values.OPENING_SENSORS):
            return False
        if re.search(r"\b(on|detected|triggered|clear)\b", text):
            return False
    bare = re.sub(r"^((what's|what is|tell me|do you know) )?(the |my )?", "", text)
    if bare == name and (bare == re.sub(r"^(the|my) ", "", text) or name not in values.NAMES["sensor"]):
        return False
    return seconds(slots, "start_") == 0 or "Decrease" not in intent or seconds(slots) < seconds(slots, "start_")


def seconds(slots, prefix=""):
    return sum(slots.get(f"{prefix}{unit}", 0) * size for unit, size in
               [("hours", 3600), ("minutes", 60), ("seconds", 1)])


class Template:
    """One sentence template of one intent's data block."""

    def __init__(self, intent, data, sentence):
        self.intent, self.data, self.sentence = intent, data, sentence
        combination = (data.metadata or {}).get("slot_combination", "")
        domain = data.slots.get("domain") or data.requires_context.get("domain") or ""
        self.group = (intent, combination, str(domain), data.response if intent == "HassRespond" else "")
        self.rows, self.exhausted = 0, False


def collect_templates(intents):
    return [
        Template(intent.name, data, sentence)
        for intent in intents.intents.values()
        for data in intent.data
        for sentence in sorted(data.sentences, key=lambda sentence: sentence.text)
    ]


def assign_splits(templates, generator):
    """Maps each template text to a split. Equal texts in several blocks are one template."""
    split, by_intent, groups = {}, {}, {}
    for template in templates:
        by_intent.setdefault(template.intent, [])
        if template.sentence.text not in by_intent[template.intent]:
            by_intent[template.intent].append(template.sentence.text)
        groups.setdefault(template.sentence.text, set()).add(template.group)
    left = {}
    for text, members in groups.items():
        for group in members:
            left[group] = left.get(group, 0) + 1
    for texts in by_intent.values():
        order = list(texts)
        generator.shuffle(order)
        for name, share in HELD_OUT.items():
            wanted = max(1, round(share * len(texts))) if len(texts) > 1 else 0
            for text in order:
                if wanted == 0:
                    break
                if text in split or any(left[group] < 2 for group in groups[text]):
                    continue
                split[text], wanted = name, wanted - 1
                for group in groups[text]:
                    left[group] -= 1
    return {text: split.get(text, "train") for text in groups}


class Builder:
    def __init__(self):
        self.random = random.Random(SEED)
        self.intents = load_intents()
        self.slot_lists = household_lists(self.intents)
        self.sampler = Sampler(self.intents, self.slot_lists, self.random)
        self.seen = set()

    def recognised(self, text):
        result = hassil.recognize_best(
            text, self.intents, slot_lists=self.slot_lists, best_slot_name="name", language="en")
        if result is None:
            return None
        return result.intent.name, {entity.name: plain(entity.value) for entity in result.entities_list}

    def row(self, template):
        """One new row of the template, or None when it seems to have no more to give."""
        for _ in range(ATTEMPTS):
            text, slots = self.sampler.sample(template.sentence, template.data)
            key = text.casefold()
            if key in self.seen or not is_natural(text, template.intent, slots):
                continue
            self.seen.add(key)
            meant = (template.intent, slots)
            if self.recognised(text) != meant:
                continue
            polite = self.politely(text)
            if polite != text and self.recognised(polite) == meant:
                text = polite
            return text, {"intent": template.intent, "slots": dict(sorted(slots.items()))}
        return None

    def politely(self, text):
        if text.split()[0] not in IMPERATIVES or self.random.random() > 0.15:
            return text
        if self.random.random() < 0.6:
            return f"{self.random.choice(POLITE_BEFORE)} {text}"
        return f"{text} {self.random.choice(POLITE_AFTER)}"

    def fill(self, templates, count, cap):
        """Draws `count` rows, fairly over intents (weight: root of the number of templates), then over templates."""
        intents = {}
        for template in templates:
            intents.setdefault(template.intent, []).append(template)
        weight = {intent: len(members) ** 0.5 for intent, members in intents.items()}
        drawn, rows = dict.fromkeys(intents, 0), []
        while len(rows) < count and intents:
            intent = min(intents, key=lambda name: (drawn[name] + 1) / weight[name])
            open_templates = [t for t in intents[intent] if not t.exhausted and t.rows < cap]
            if not open_templates:
                del intents[intent]
                continue
            template = min(open_templates, key=lambda t: t.rows)
            row = self.row(template)
            if row is None:
                template.exhausted = True
                continue
            template.rows += 1
            drawn[intent] += 1
            rows.append((row, template))
        if len(rows) < count:
            sys.exit(f"only {len(rows)} of {count} rows could be drawn")
        self.random.shuffle(rows)
        return rows


def encode(utterance, answer):
    compact = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
    messages = [{"role": "user", "content": utterance}, {"role": "assistant", "content": compact}]
    return json.dumps({"messages": messages}, ensure_ascii=False, separators=(",", ":")) + "\n"


def main():
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    builder = Builder()
    templates = collect_templates(builder.intents)
    split = assign_splits(templates, builder.random)
    drawn_from = []
    for name, count in ROWS.items():
        members = [template for template in templates if split[template.sentence.text] == name]
        builder.random.shuffle(members)
        rows = builder.fill(members, count, ROWS_PER_TEMPLATE[name])
        with open(directory / f"{name}.jsonl", "w", encoding="utf-8", newline="\n") as file:
            file.writelines(encode(*row) for row, _ in rows)
        used = sorted({(template.intent, template.sentence.text) for _, template in rows})
        drawn_from += [f"{name}\t{intent}\t{text}\n" for intent, text in used]
        print(f"{name}: {len(rows)} rows, {len(used)} templates, {len({intent for intent, _ in used})} intents")
    with open(directory / "templates.tsv", "w", encoding="utf-8", newline="\n") as file:
        file.writelines(drawn_from)


if __name__ == "__main__":
    main()
