#!/usr/bin/env python3
"""Writes what QuantizeTests and MergeTests compare with, the same bytes every time:

quantize_errors.json  the sum of squared errors that llama.cpp's quantisation makes on data by formula
ties.json             deltas of three adapters, trimmed, elected and merged by PEFT's merge_utils

Run with:
    pip install peft==0.21.2 torch numpy gguf llama-cpp-python && python3 Scripts/merge_goldens.py Tests/LoRAModelTests/Goldens
"""
import ctypes
import json
import pathlib
import sys

import gguf
import llama_cpp
import numpy as np
import torch
from peft.utils.merge_utils import ties

TYPES = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
COUNT = 4096
MASK = (1 << 64) - 1


def numbers(seed: int, count: int) -> np.ndarray:
    """SplitMix64's upper 24 bits, uniform in [-1, 1): `Numbers` of the tests."""
    values = np.empty(count, dtype=np.float32)
    state = seed
    for index in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        z ^= z >> 31
        values[index] = np.float32(z >> 40) / np.float32(8388608) - np.float32(1)
    return values


def data() -> dict[str, np.ndarray]:
    """Flat, heavy-tailed, all positive, and mostly zero."""
    flat = numbers(1, COUNT)
    return {
        "flat": flat,
        "tailed": flat * flat * flat,
        "positive": flat + np.float32(2),
        "sparse": np.where(np.abs(flat) < 0.9, np.float32(0), flat),
    }


def quantisation_errors() -> dict:
    library = ctypes.CDLL(str(pathlib.Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so"))
    quantize = library.ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    errors: dict = {}
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        block_size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        errors[name] = {}
        for label, values in data().items():
            blocks = np.zeros((1, COUNT // block_size * block_bytes), dtype=np.uint8)
            quantize(int(kind), values.ctypes.data, blocks.ctypes.data, 0, 1, COUNT, None)
            expanded = gguf.quants.dequantize(blocks, kind).astype(np.float64)
            errors[name][label] = float(((expanded - values) ** 2).sum())
    return errors


def ties_merge() -> dict:
    """Adapters of rank 2 on a (12, 16) weight; A and B are numbers(adapter), B after A."""
    rows, columns, rank = 12, 16, 2
    weights = [1.0, 0.5, -0.75]
    deltas = []
    for adapter in range(3):
        values = torch.from_numpy(numbers(adapter + 10, rank * (rows + columns)))
        A, B = values[: rank * columns].reshape(rank, columns), values[rank * columns :].reshape(rows, rank)
        deltas.append(2.0 * (B @ A))
    return {
        str(density): ties(deltas, torch.tensor(weights), density).flatten().tolist() for density in [0.25, 0.5, 1.0]
    }


if __name__ == "__main__":
    goldens = pathlib.Path(sys.argv[1])
    (goldens / "quantize_errors.json").write_text(json.dumps(quantisation_errors(), indent=1) + "\n")
    (goldens / "ties.json").write_text(json.dumps(ties_merge()) + "\n")
