#!/usr/bin/env python3
"""Builds datasets/medical-coding (description of a diagnosis -> chapter of ICD-10-CM).

    pip install simple-icd-10-cm==1.5.0
    python Scripts/build_medical_coding.py datasets/medical-coding

The same package version and seed give the same bytes. The splits share no category (the first three characters of a
code), and a held-out description with nearly the words of a row of another split is left out.
"""
import importlib.metadata
import random
import re
import sys
from pathlib import Path

import simple_icd_10_cm as icd

from dataset_rows import write_rows

SEED = 20261127
VERSION = "1.5.0"
ROWS = {"train": 3000, "valid": 200, "test": 400}
# Share of each chapter's categories.
HELD_OUT = {"test": 0.13, "valid": 0.07}
LONGEST_CODE = 5
# Chapter 22, "Codes for special purposes", has five codes in two categories: too few to hold one out.
LEFT_OUT = {"22"}
# Two descriptions are near duplicates when they share this much of the words that tell anything.
NEAR = 0.75
EMPTY_WORDS = set("a an and as at by due elsewhere classified for from in into is left not of on or other others "
                  "right side specified the to type unspecified with without".split())


def telling_words(text):
    return frozenset(re.findall(r"[a-z]+", text.lower())) - EMPTY_WORDS


def is_near(words, others):
    """Whether the Jaccard index of `words` and a member of `others` reaches NEAR."""
    return any(len(words & other) >= NEAR * len(words | other) for other in others)


def chapters_of_categories():
    """{chapter title: {category: [descriptions]}}; a description that two chapters share is left out."""
    chapters, found_in = {}, {}
    for code in icd.get_all_codes(with_dots=False):
        if icd.is_chapter_or_block(code) or len(code) > LONGEST_CODE:
            continue
        chapter = icd.get_ancestors(code)[-1]
        if chapter in LEFT_OUT:
            continue
        title = re.sub(r" \([A-Z0-9]+-[A-Z0-9]+\)$", "", icd.get_description(chapter))
        text = icd.get_description(code)
        chapters.setdefault(title, {}).setdefault(code[:3], []).append(text)
        found_in.setdefault(text.casefold(), set()).add(title)
    for categories in chapters.values():
        for category, texts in categories.items():
            unique = {text.casefold(): text for text in texts if len(found_in[text.casefold()]) == 1}
            categories[category] = list(unique.values())
    return chapters


def assign_splits(chapters, generator):
    """{split: [(title, descriptions of one category in random order)]}, the same share of every chapter."""
    splits = {name: [] for name in ROWS}
    for title, categories in chapters.items():
        names = list(categories)
        generator.shuffle(names)
        for split, share in HELD_OUT.items():
            count = max(1, round(share * len(categories)))
            splits[split] += [(title, categories[name]) for name in names[:count]]
            del names[:count]
        splits["train"] += [(title, categories[name]) for name in names]
    for members in splits.values():
        generator.shuffle(members)
        for _, texts in members:
            generator.shuffle(texts)
    return splits


def draw(members, count, seen, is_held_out):
    """Takes one description of each category in turn, so that no category or chapter with many codes dominates."""
    rows, taken, depth = [], set(), 0
    deepest = max(len(texts) for _, texts in members)
    new_words = []
    while len(rows) < count and depth < deepest:
        for title, texts in members:
            if depth >= len(texts) or len(rows) == count:
                continue
            text, words = texts[depth], telling_words(texts[depth])
            if text.casefold() in taken or not words or (is_held_out and is_near(words, seen)):
                continue
            taken.add(text.casefold())
            new_words.append(words)
            rows.append((text, title))
        depth += 1
    if len(rows) < count:
        sys.exit(f"only {len(rows)} of {count} rows could be drawn")
    return rows, seen + new_words


def main():
    if (found := importlib.metadata.version("simple-icd-10-cm")) != VERSION:
        sys.exit(f"need simple-icd-10-cm=={VERSION}, found {found}")
    generator = random.Random(SEED)
    splits = assign_splits(chapters_of_categories(), generator)
    seen = []
    for name, count in ROWS.items():
        rows, seen = draw(splits[name], count, seen, is_held_out=name != "train")
        generator.shuffle(rows)
        write_rows(Path(sys.argv[1]), name, rows)
        titles = [title for _, title in rows]
        print(f"{name}: {len(rows)} rows of {len(splits[name])} categories, {len(set(titles))} chapters, "
              f"the largest {max(map(titles.count, titles)) / len(rows):.3f}")


if __name__ == "__main__":
    main()
