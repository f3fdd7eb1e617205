"""Loads a llama-architecture GGUF file into transformers in f32, and the number streams that goldens share with tests.

    pip install torch transformers gguf sentencepiece peft
"""
import math
import os
import tempfile

import numpy
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

MASK = (1 << 64) - 1


def load_tokenizer(path):
    """The tokenizer of a GGUF file, whatever the file is called."""
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(os.path.abspath(path), os.path.join(folder, "base.gguf"))
        return AutoTokenizer.from_pretrained(folder, gguf_file="base.gguf")


def load_base(path):
    """(model, tokenizer) of a GGUF file with dequantised f32 weights, whatever the file is called."""
    tokenizer = load_tokenizer(path)
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(os.path.abspath(path), os.path.join(folder, "base.gguf"))
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file="base.gguf", dtype=torch.float32)
    return model, tokenizer


def fnv1a(text):
    """64-bit FNV-1a of the UTF-8 bytes."""
    value = 0xCBF29CE484222325
    for byte in text.encode("utf-8"):
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def splitmix64(state, count):
    """The first `count` outputs of SplitMix64 from `state`, as uint64."""
    with numpy.errstate(over="ignore"):
        steps = numpy.arange(1, count + 1, dtype=numpy.uint64)
        z = numpy.uint64(state) + steps * numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        return z ^ (z >> numpy.uint64(31))


def uniform(name, seed, shape, bound):
    """f32 values in [-bound, bound), row by row: the top 24 bits of each draw, so that every step is exact but one."""
    draws = splitmix64((fnv1a(name) + seed) & MASK, math.prod(shape))
    unit = (draws >> numpy.uint64(40)).astype(numpy.float32) * numpy.float32(2.0**-23) - numpy.float32(1)
    return torch.from_numpy((unit * numpy.float32(bound)).reshape(shape))


def signs(name, seed, count):
    """`count` values of +1 or -1: the top bit of each draw (set means -1)."""
    draws = splitmix64((fnv1a(name) + seed) & MASK, count)
    return 1.0 - 2.0 * (draws >> numpy.uint64(63)).astype(numpy.float64)
