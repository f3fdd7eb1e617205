"""Variants of a `.lora` file, for the scripts that try a running server."""
import json
import os
import zipfile

CONFIGURATION, TENSORS, RECORD = "adapter_config.json", "adapter_model.safetensors", "lora.json"


def entries(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(path, contents):
    """Writes the file beside its place and renames it, so that nobody sees half of it."""
    beside = os.path.join(os.path.dirname(path), "." + os.path.basename(path) + ".new")
    with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    os.replace(beside, path)


def put(path, data):
    """As `pack`, of bytes."""
    beside = os.path.join(os.path.dirname(path), "." + os.path.basename(path) + ".new")
    with open(beside, "wb") as file:
        file.write(data)
    os.replace(beside, path)


def changed(contents, name, **members):
    """The entries with other members in one of the JSON files."""
    return {**contents, name: json.dumps({**json.loads(contents[name]), **members}).encode()}


def scaled(contents, factor):
    """The adapter with its effect multiplied by `factor`: same size, another content, other answers."""
    alpha = json.loads(contents[CONFIGURATION])["lora_alpha"] * factor
    return changed(changed(contents, CONFIGURATION, lora_alpha=alpha), RECORD, alpha=alpha)


def foreign(contents):
    """The adapter as if it had been made for another base."""
    return changed(contents, RECORD, base_fingerprint="0123456789abcdef" * 4)


def bomb(path, gigabytes=1):
    """An archive whose tensors are gigabytes of zeros."""
    beside = path + ".new"
    with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr(CONFIGURATION, "{}")
        with archive.open(TENSORS, "w", force_zip64=True) as entry:
            for _ in range(gigabytes << 6):
                entry.write(bytes(1 << 24))
        archive.writestr(RECORD, "{}")
    os.replace(beside, path)
