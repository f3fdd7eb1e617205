"""The three domains: how each adapter is trained, and what a long prompt tells the base instead.

Everything here was chosen on the validation splits (smart-home's training options are the demo's, which were chosen on
its test split; see Documentation/log.md).
"""
import dataclasses
import json
import random
from pathlib import Path

EXAMPLES = 8
SEED = 20261127


def rows_of(data, split):
    """The (question, answer) pairs of a split."""
    pairs = []
    for line in (Path(data) / f"{split}.jsonl").read_text(encoding="utf-8").splitlines():
        question, answer = json.loads(line)["messages"]
        pairs.append((question["content"], answer["content"]))
    return pairs


@dataclasses.dataclass(frozen=True)
class Domain:
    name: str
    promise: str
    training: tuple
    # What the base is told; {…} is filled with what the training rows' answers are made of.
    instructions: str
    # Whether the examples are turns of a conversation, or lines of one message.
    examples_as_turns: bool
    # Longer than any expected answer, so that rambling is told apart from cutting.
    max_tokens: int
    counts_phonemes: bool = False

    @property
    def data(self):
        return f"datasets/{self.name}"

    def vocabulary(self, answers):
        """What an answer may be made of, as the instructions list it."""
        if self.name == "smart-home":
            parsed = [json.loads(answer) for answer in answers]
            slots = {slot for answer in parsed for slot in answer["slots"]}
            return {"intents": ", ".join(sorted({answer["intent"] for answer in parsed})),
                    "slots": ", ".join(sorted(slots))}
        if self.name == "pronunciation":
            return {"phonemes": " ".join(sorted({phoneme for answer in answers for phoneme in answer.split()}))}
        return {"chapters": "\n".join(sorted(set(answers)))}

    def long_prompt(self, as_turns=None):
        """A function from a question to the messages that carry instructions and eight training rows before it."""
        train = rows_of(self.data, "train")
        told = self.instructions.format(**self.vocabulary([answer for _, answer in train]))
        shown = random.Random(SEED).sample(train, EXAMPLES)
        if self.examples_as_turns if as_turns is None else as_turns:
            before = [message("system", told)]
            for question, answer in shown:
                before += [message("user", question), message("assistant", answer)]
            return lambda question: before + [message("user", question)]
        text = told + "\n\n" + "".join(f"Input: {question}\nOutput: {answer}\n\n" for question, answer in shown)
        return lambda question: [message("user", f"{text}Input: {question}\nOutput:")]


def message(role, content):
    return {"role": role, "content": content}


def short_prompt(question):
    return [message("user", question)]


DOMAINS = [
    Domain(
        "medical-coding", "knowledge",
        ("--target", "all-linear", "--rank", "8", "--alpha", "16", "--epochs", "1"),
        "Say which chapter of ICD-10-CM, the classification of diseases, a description belongs to. Answer with the "
        "title of one of these chapters, word for word, and nothing else:\n{chapters}",
        examples_as_turns=True, max_tokens=24),
    Domain(
        "smart-home", "behaviour",
        ("--target", "all-linear", "--rank", "4", "--alpha", "8", "--epochs", "3"),
        "Turn what is said to a home assistant into compact JSON, {{\"intent\":…,\"slots\":{{…}}}}, with the slots in "
        "alphabetical order and whole numbers as integers, and write nothing else.\nIntents: {intents}\nSlots: {slots}",
        examples_as_turns=True, max_tokens=52),
    Domain(
        "pronunciation", "capability",
        ("--target", "all-linear", "--rank", "8", "--alpha", "16", "--epochs", "1"),
        "Write how an English word is pronounced, in the phonemes of ARPAbet with a space between, vowels with their "
        "stress (0 none, 1 primary, 2 secondary), and nothing else.\nPhonemes: {phonemes}",
        examples_as_turns=False, max_tokens=32, counts_phonemes=True),
]
