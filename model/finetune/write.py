"""Write the trained checkpoint: a folder in Hugging Face's layout that appears whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from peft import PeftModel
from transformers import PreTrainedModel

from model.checkpoint.card import read_card
from model.tokenizer import SENTENCEPIECE_NAMES

KEPT_FILES = (
    "tokenizer.json",
    *SENTENCEPIECE_NAMES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
)
SHARD_SIZE = "5GB"


def write_checkpoint(
    output: Path,
    model: PreTrainedModel | PeftModel,
    *,
    work: Path,
    source: Path,
    base_name: str,
    record: Mapping[str, Any],
) -> None:
    """Write weights (bfloat16), tokenizer, card, record and loss curve.

    LoRA's matrices are kept in `adapter/` and also added to the weights, so that the folder is a checkpoint by itself.

    Args:
        output: must not exist.
        model: changed on the way: merged, in bfloat16.
        work: folder beside `output` with `loss.csv` and `loss.png`; what is unfinished stays in it.
        source: folder the training started from; its tokenizer, generation settings, licence and notice are kept.
        base_name: what the user calls it.
        record: for `finetune.json`.
    """
    fresh = work / "finished"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    if isinstance(model, PeftModel):
        _save_adapter(fresh / "adapter", model, base_name)
        model = model.merge_and_unload()
    model.to(torch.bfloat16)
    model.config.use_cache = True
    model.save_pretrained(fresh, max_shard_size=SHARD_SIZE)
    for name in KEPT_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, fresh / name)
    (fresh / "README.md").write_text(_card(source, output.name, base_name, record), encoding="utf-8")
    (fresh / "finetune.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name in ("loss.csv", "loss.png"):
        shutil.copyfile(work / name, fresh / name)
    for path in (fresh, *fresh.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    fresh.rename(output)


def _save_adapter(folder: Path, model: PeftModel, base_name: str) -> None:
    """LoRA's matrices, for peft; without its empty card."""
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    if not Path(base_name).expanduser().is_dir():
        # A Hub id says more to others than this machine's cache folder, which peft puts down.
        path = folder / "adapter_config.json"
        content = json.loads(path.read_text(encoding="utf-8")) | {"base_model_name_or_path": base_name}
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _card(source: Path, name: str, base_name: str, record: Mapping[str, Any]) -> str:
    card = read_card(source, name=base_name)
    known = {"license": card.licence, "base_model": base_name, "notice": card.notice}
    front = yaml.safe_dump({key: value for key, value in known.items() if value}, sort_keys=False, allow_unicode=True)
    return (
        f"---\n{front}---\n\n# {name}\n\n{base_name}, trained further on {record['data']['documents']:,} documents "
        f"({record['data']['tokens']:,} tokens), {record['steps']:,} steps. Settings and hashes: `finetune.json`; "
        "loss: `loss.csv`, `loss.png`.\n"
    )
