#!/usr/bin/env python3
"""Writes the goldens of the tokenizer conversion tests: small tokenizers in Hugging Face's form, and what they give.

    pip install tokenizers==0.23.3 transformers==5.23.0 sentencepiece==0.2.3 protobuf
    python3 Scripts/sentencepiece_goldens.py --output Tests/LoRAConversionTests/Goldens/tokenizers

SentencePiece trains BPE with byte fallback on the smart-home data; transformers writes its tokenizer.json (`metaspace`),
and the other forms that published models have are made of that one. `bytes` is byte-level BPE trained by tokenizers.
`NAME.digests` has, for every third line of tokenizer-lines.jsonl, two little-endian 32-bit FNV-1a digests: of the ids
(little-endian 32-bit each), and of the UTF-8 bytes of the decoded text.
"""
import argparse
import copy
import json
import struct
import tempfile
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaTokenizer
from transformers.convert_slow_tokenizer import SentencePieceExtractor

ROOT = Path(__file__).resolve().parent.parent
LINES = ROOT / "Tests/LoRATextTests/Goldens/tokenizer-lines.jsonl"
CONTROL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]


def corpus():
    texts = []
    for line in open(ROOT / "datasets/smart-home/train.jsonl", encoding="utf-8"):
        row = json.loads(line)
        for message in row.get("messages", []):
            texts.append(message["content"])
        texts += [value for value in row.values() if isinstance(value, str)]
    # Other scripts, so that characters and not only bytes are among the tokens.
    for line in open(LINES, encoding="utf-8"):
        text = json.loads(line)
        if isinstance(text, str) and len(texts) < 6000:
            texts.append(text)
    return texts


def train_sentencepiece(folder, texts):
    text = folder / "corpus.txt"
    text.write_text("\n".join(t.replace("\n", " ") for t in texts), encoding="utf-8", errors="replace")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "spm"), model_type="bpe", vocab_size=1100, byte_fallback=True,
        character_coverage=0.985, add_dummy_prefix=True, remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
        normalization_rule_name="identity", num_threads=1, user_defined_symbols=["<|im_start|>", "<|im_end|>"])
    return str(folder / "spm.model")


def replace(pattern, content):
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def variants(first):
    """The forms in which published tokenizer.json files write the same vocabulary."""
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    steps = [replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"}]
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    prepend = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")]}
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    for name, normalizer, pre_tokenizer, decoder in [
        ("metaspace-first", None, metaspace, steps + [strip]),
        ("metaspace-always", None, metaspace | {"prepend_scheme": "always"}, steps + [strip]),
        ("prepend", prepend, None, steps + [strip]),
        ("bare", replace(" ", "▁"), split, steps),
    ]:
        made = copy.deepcopy(first)
        made.update(normalizer=normalizer, pre_tokenizer=pre_tokenizer, decoder={"type": "Sequence", "decoders": decoder})
        yield name, made


def train_bytes(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    trainer = trainers.BpeTrainer(
        vocab_size=800, special_tokens=CONTROL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    return json.loads(tokenizer.to_str())


def digest(data):
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def write(output, name, made, config):
    folder = output / name
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(made, ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")
    tokenizer = Tokenizer.from_str(text)
    with open(output / f"{name}.digests", "wb") as file:
        for line in list(open(LINES, encoding="utf-8"))[::3]:
            text = json.loads(line)
            text = text if isinstance(text, str) else text[0] * text[1]
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            decoded = tokenizer.decode(ids, skip_special_tokens=False)
            file.write(struct.pack("<II", digest(struct.pack(f"<{len(ids)}i", *ids)), digest(decoded.encode())))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="Tests/LoRAConversionTests/Goldens/tokenizers")
    output = Path(parser.parse_args().output)
    texts = corpus()
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": "{{ messages[0].content }}"}
    with tempfile.TemporaryDirectory() as folder:
        model = train_sentencepiece(Path(folder), texts)
        extracted = SentencePieceExtractor(model).extract(None)
        vocab, merges = extracted["vocab"], extracted["merges"]
        vocab = dict(vocab) if isinstance(vocab, dict) else {t[0] if isinstance(t, (list, tuple)) else t: i for i, t in enumerate(vocab)}
        tokenizer = LlamaTokenizer(vocab=vocab, merges=merges)
        tokenizer.add_special_tokens({"additional_special_tokens": CONTROL[3:]})
        tokenizer.save_pretrained(folder)
        first = json.loads((Path(folder) / "tokenizer.json").read_text(encoding="utf-8"))
    for name, made in variants(first):
        write(output, name, made, config | {"add_bos_token": True})
    write(output, "bytes", train_bytes(texts), config | {"eos_token": {"content": "<|im_end|>", "__type": "AddedToken"}})


if __name__ == "__main__":
    main()
