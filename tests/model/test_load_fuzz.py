"""200 damaged checkpoints, each from a seed: one sentence, nothing run, nothing written."""

from __future__ import annotations

import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.interface import EngineError
from model.open_engine import open_engine

Damage = Callable[[Path, random.Random], None]
NUM_SEEDS = 20


class Canary:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, key: str, value: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))


def truncate_weights(folder: Path, rng: random.Random) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def truncate_json(folder: Path, rng: random.Random) -> None:
    path = folder / "config.json"
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size - 3)])


def flip_header(folder: Path, rng: random.Random) -> None:
    """One byte of the header's structure becomes another; a name, an offset, a shape or the JSON itself breaks."""
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    header = data[8 : 8 + length]
    places = [i for i, byte in enumerate(header) if byte in b'{}[]:",' or chr(byte).isdigit()]
    header[rng.choice(places)] = ord("x")
    path.write_bytes(data[:8] + header + data[8 + length :])


def rename(folder: Path, rng: random.Random) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        name = rng.choice(sorted(tensors))
        tensors[f"{name}_"] = tensors.pop(name)

    change_tensors(folder, change)


def drop(folder: Path, rng: random.Random) -> None:
    change_tensors(folder, lambda tensors: tensors.__delitem__(rng.choice(sorted(tensors))))


def reshape(folder: Path, rng: random.Random) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        names = [n for n in sorted(tensors) if tensors[n].dim() == 1 or tensors[n].shape[0] != tensors[n].shape[1]]
        name = rng.choice(names)
        tensor = tensors[name]
        tensors[name] = tensor.T.contiguous() if tensor.dim() == 2 else tensor[:-1].clone()

    change_tensors(folder, change)


def poison(folder: Path, rng: random.Random) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        flat = tensors[rng.choice(sorted(tensors))].view(-1)
        flat[rng.randrange(len(flat))] = rng.choice([float("nan"), float("inf"), float("-inf")])

    change_tensors(folder, change)


def break_config(folder: Path, rng: random.Random) -> None:
    key = rng.choice(
        ["model_type", "hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "hidden_act"]
    )
    change_config(folder, key, rng.choice([None, -1, 0, 7.5, "x", [], {}, True, 10**6]))


def break_tokenizer(folder: Path, rng: random.Random) -> None:
    path = folder / "tokenizer.model"
    kind = rng.randrange(3)
    if kind == 0:
        path.unlink()
    elif kind == 1:
        path.write_bytes(bytes(rng.randrange(256) for _ in range(200)))
    else:
        (folder / "tokenizer.json").write_text(rng.choice(["", "{", "[]", '{"model": {}}', '{"version": "1.0"}']))


def malicious_pickle(folder: Path, rng: random.Random) -> None:
    """A canary hidden at a random place of a `.bin` file."""
    tensors: dict[str, object] = dict(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    bait: object = Canary(folder / "canary")
    for _ in range(rng.randrange(3)):
        bait = rng.choice([lambda inner: [inner], lambda inner: {"inner": inner}, lambda inner: (1, inner)])(bait)
    tensors[rng.choice(sorted(tensors))] = bait
    torch.save(tensors, folder / "pytorch_model.bin")


DAMAGES: tuple[Damage, ...] = (
    truncate_weights,
    truncate_json,
    flip_header,
    rename,
    drop,
    reshape,
    poison,
    break_config,
    break_tokenizer,
    malicious_pickle,
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_one_sentence(damage: Damage, random_checkpoint: Path, tmp_path: Path) -> None:
    for seed in range(NUM_SEEDS):
        folder = Path(shutil.copytree(random_checkpoint, tmp_path / str(seed)))
        damage(folder, random.Random(seed))
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        with pytest.raises(EngineError) as caught:
            open_engine(str(folder), device="cpu").close()
        text = str(caught.value)
        assert 20 < len(text) < 600, text
        assert "\n" not in text
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before, "something was written"
        shutil.rmtree(folder)
