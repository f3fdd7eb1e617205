#!/usr/bin/env python3
"""Writes the golden files of Tests/LoRAFormatsTests/Goldens, the same bytes every time.

Run with:
    pip install gguf==0.19.0 safetensors==0.8.0 peft==0.21.2 transformers torch && python3 Scripts/goldens_formats.py
"""
import hashlib
import io
import json
import pathlib
import zipfile

import gguf
import numpy as np
import safetensors.numpy

GOLDENS = pathlib.Path(__file__).resolve().parent.parent / "Tests/LoRAFormatsTests/Goldens"
SEED = 20261123
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
# Bytes at which a block holds half-precision numbers.
SCALES = {
    "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2],
    "Q6_K": [208],
}
# Largest, smallest normal, subnormal (largest, smallest), zero, negative zero and ordinary halves.
HALVES = [0x7BFF, 0x0400, 0x03FF, 0x0001, 0x0000, 0x8000, 0xFBFF, 0x83FF, 0x3C00, 0xB155, 0x2E66]


def blocks(name: str, generator: np.random.Generator, count: int) -> np.ndarray:
    """Random blocks (count, bytes of a block) whose scales are finite, the extreme ones first."""
    block_size, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    if name in SCALES:
        data = generator.integers(0, 256, (count, block_bytes), dtype=np.uint8)
        for position in SCALES[name]:
            halves = generator.normal(0, 0.02, count).astype(np.float16).view(np.uint16)
            extreme = np.roll(np.array(HALVES, dtype=np.uint16), position)[:count]
            halves[: len(extreme)] = extreme
            data[:, position : position + 2] = halves.view(np.uint8).reshape(count, 2)
        return data
    if name == "F32":
        values = generator.normal(0, 1, count).astype(np.float32)
        values[:4] = [np.float32(3.4e38), np.float32(1e-45), np.float32(-0.0), np.float32(1.00390625)]
        return values.view(np.uint8).reshape(count, 4)
    if name == "F16":
        halves = generator.normal(0, 1, count).astype(np.float16).view(np.uint16)
        halves[: len(HALVES)] = HALVES
        return halves.view(np.uint8).reshape(count, 2)
    words = (generator.normal(0, 1, count).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    words[:4] = [0x7F7F, 0x0001, 0x8000, 0x007F]
    return words.view(np.uint8).reshape(count, 2)


def make_dequantisation() -> None:
    """<type>.blocks and <type>.values (f32), for every type that is read."""
    generator = np.random.default_rng(SEED)
    for name in TYPES:
        count = {1: 333, 32: 33, 256: 13}[gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]][0]]
        data = blocks(name, generator, count)
        with np.errstate(over="ignore", invalid="ignore"):
            values = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[name])
        (GOLDENS / f"{name}.blocks").write_bytes(data.tobytes())
        (GOLDENS / f"{name}.values").write_bytes(np.ascontiguousarray(values, dtype="<f4").tobytes())


def make_gguf() -> None:
    """A small file with every tensor type and every key type, by the gguf package, and all-types.<type>: the tensors."""
    generator = np.random.default_rng(SEED + 1)
    writer = gguf.GGUFWriter(GOLDENS / "all-types.gguf", "llama")
    writer.add_uint8("test.uint8", 200)
    writer.add_int8("test.int8", -100)
    writer.add_uint16("test.uint16", 60000)
    writer.add_int16("test.int16", -30000)
    writer.add_uint32("test.uint32", 4000000000)
    writer.add_int32("test.int32", -2000000000)
    writer.add_uint64("test.uint64", 2**63)
    writer.add_int64("test.int64", -(2**62))
    writer.add_float32("test.float32", 0.1)
    writer.add_float64("test.float64", 0.1)
    writer.add_bool("test.bool", True)
    writer.add_string("test.string", "h\u00e9llo \U0001f600")
    writer.add_array("test.strings", ["a", "", "\u0120b"])
    writer.add_array("test.int32s", [1, -2, 3])
    writer.add_array("test.float32s", [0.5, -1.25])
    writer.add_array("test.bools", [True, False])
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        block_size, _ = gguf.GGML_QUANT_SIZES[kind]
        rows, columns = (3, 7) if block_size == 1 else (3, block_size)
        data = blocks(name, generator, rows * columns // block_size).reshape(rows, -1)
        (GOLDENS / f"all-types.{name}").write_bytes(data.tobytes())
        if name == "F32":
            writer.add_tensor(name, data.view(np.float32).reshape(rows, columns))
        elif name == "F16":
            writer.add_tensor(name, data.view(np.float16).reshape(rows, columns))
        else:
            writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_safetensors() -> None:
    """A small PEFT-like file, by the reference implementation."""
    generator = np.random.default_rng(SEED + 2)
    tensors = {
        "b.lora_A.weight": generator.normal(0, 1, (2, 3)).astype(np.float32),
        "a.lora_B.weight": generator.normal(0, 1, (3, 2)).astype(np.float32),
        "half": np.array([[0.5, -2.0, 65504.0]], dtype=np.float16),
        "index": np.arange(3, dtype=np.int64),
        "scalar": np.array(1.5, dtype=np.float32),
        "none": np.zeros((0, 4), dtype=np.float32),
    }
    safetensors.numpy.save_file(tensors, GOLDENS / "small.safetensors", metadata={"format": "pt"})


class Unseekable(io.RawIOBase):
    """A stream without seek: zipfile then writes data descriptors."""

    def __init__(self) -> None:
        self.buffer = b""

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.buffer += bytes(data)
        return len(data)


def make_zip() -> None:
    """Archives by Python's zipfile: an ordinary one, and a streamed one with data descriptors."""
    stamp = (2026, 11, 23, 12, 0, 0)
    text = json.dumps({"n": list(range(100))}).encode()

    def fill(archive: zipfile.ZipFile) -> None:
        folder = zipfile.ZipInfo("folder/", stamp)
        archive.writestr(folder, b"")
        for name, data, method in [
            ("folder/deflated.json", text, zipfile.ZIP_DEFLATED),
            ("stored.bin", bytes(range(256)), zipfile.ZIP_STORED),
            ("empty", b"", zipfile.ZIP_DEFLATED),
            ("\u00e9.txt", b"name in UTF-8", zipfile.ZIP_DEFLATED),
        ]:
            info = zipfile.ZipInfo(name, stamp)
            info.compress_type = method
            archive.writestr(info, data)

    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w") as archive:
        fill(archive)
    (GOLDENS / "python.zip").write_bytes(plain.getvalue())
    streamed = Unseekable()
    with zipfile.ZipFile(streamed, "w") as archive:
        fill(archive)
    (GOLDENS / "python-streamed.zip").write_bytes(streamed.buffer)


def make_peft() -> None:
    """A PEFT directory with patterns and rsLoRA, by PEFT on a tiny random model."""
    import peft
    import torch
    import transformers

    torch.manual_seed(SEED)
    shape = transformers.LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=6, lora_dropout=0.05, use_rslora=True,
        target_modules=["q_proj", "down_proj"], rank_pattern={"down_proj": 2},
        alpha_pattern={"layers.0.self_attn.q_proj": 3}, layers_to_transform=[0, 1], layers_pattern="layers",
        base_model_name_or_path="tiny")
    model = peft.get_peft_model(transformers.LlamaForCausalLM(shape), config)
    model.peft_config["default"].base_model_name_or_path = "tiny"
    model.save_pretrained(GOLDENS / "peft")
    (GOLDENS / "peft" / "README.md").unlink(missing_ok=True)
    # PEFT writes a set, whose order changes from run to run.
    path = GOLDENS / "peft" / "adapter_config.json"
    values = json.loads(path.read_text())
    values["target_modules"].sort()
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def make_fingerprint() -> None:
    """The fingerprint of the base that FingerprintTests writes, put together from the definition."""

    def text(value: str) -> bytes:
        return len(value.encode()).to_bytes(8, "little") + value.encode()

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, "little")

    parts = [text("lora base fingerprint 1"), number(3, 8)]
    parts += [text("general.architecture"), number(8, 4), text("llama")]
    parts += [text("llama.block_count"), number(4, 4), number(2, 4)]
    parts += [text("llama.rope.freq_base"), number(6, 4), np.float32(10000).tobytes()]
    parts += [number(2, 8)]
    for name, data in [("a", bytes([1, 2, 3, 4])), ("b", bytes([5, 6, 7, 9]))]:
        parts += [text(name), number(0, 4), number(1, 8), number(1, 8), data]
    digest = hashlib.sha256(b"".join(parts)).hexdigest()
    (GOLDENS / "base.fingerprint").write_text(digest)


if __name__ == "__main__":
    GOLDENS.mkdir(parents=True, exist_ok=True)
    make_dequantisation()
    make_gguf()
    make_safetensors()
    make_zip()
    make_peft()
    make_fingerprint()
