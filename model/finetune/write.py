"""Write the trained checkpoint: a folder in Hugging Face's layout that appears whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from peft import PeftModel
from transformers import PreTrainedModel

from model.checkpoint.card import read_card
from model.tokenizer import SENTENCEPIECE_NAMES

TOKENIZER_FILES = (
    "tokenizer.json",
    *SENTENCEPIECE_NAMES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
SHARD_SIZE = "5GB"


def write_checkpoint(
    output: Path,
    model: PreTrainedModel | PeftModel,
    *,
    source: Path,
    base_name: str,
    record: Mapping[str, Any],
    curve: Path,
) -> None:
    """Write weights (bfloat16), tokenizer, card, record and loss curve.

    LoRA's matrices are kept in `adapter/` and also added to the weights, so that the folder is a checkpoint by itself.

    Args:
        output: must not exist.
        source: folder the training started from; its tokenizer, generation settings, licence and notice are kept.
        base_name: what the user calls it.
        record: for `finetune.json`.
        curve: folder with `loss.csv` and `loss.png`.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        if isinstance(model, PeftModel):
            model.save_pretrained(fresh / "adapter")
            model = model.merge_and_unload()
        generation = source / "generation_config.json"
        model.to(torch.bfloat16)
        model.config.use_cache = True
        model.save_pretrained(fresh, max_shard_size=SHARD_SIZE)
        for name in TOKENIZER_FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, fresh / name)
        if generation.is_file():
            shutil.copyfile(generation, fresh / generation.name)
        (fresh / "README.md").write_text(_card(source, output.name, base_name, record), encoding="utf-8")
        (fresh / "finetune.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for name in ("loss.csv", "loss.png"):
            shutil.copyfile(curve / name, fresh / name)
        fresh.chmod(0o755)
        for path in fresh.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        fresh.rename(output)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _card(source: Path, name: str, base_name: str, record: Mapping[str, Any]) -> str:
    card = read_card(source, name=base_name)
    known = {"license": card.licence, "base_model": base_name, "notice": card.notice}
    front = yaml.safe_dump({key: value for key, value in known.items() if value}, sort_keys=False, allow_unicode=True)
    return (
        f"---\n{front}---\n\n# {name}\n\n{base_name}, trained further on {record['data']['documents']:,} documents "
        f"({record['data']['tokens']:,} tokens), {record['steps']:,} steps. Settings and hashes: `finetune.json`; "
        "loss: `loss.csv`, `loss.png`.\n"
    )
