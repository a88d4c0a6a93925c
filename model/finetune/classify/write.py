"""The folder of a trained head: the head, what it was measured to do, and if wanted the whole checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from model.checkpoint.card import read_card
from model.checkpoint.config_json import read_json
from model.checkpoint.special_tokens import special_tokens
from model.finetune.classify.measure import Figure, Measurement
from model.finetune.classify.pictures import draw, write_tables
from model.finetune.write import KEPT_FILES, SHARD_SIZE
from model.tokenizer import load_tokenizer

SINGLE_LABEL = "single_label_classification"  # Hugging Face's name


def label_settings(base: Path, labels: Sequence[str]) -> dict[str, Any]:
    """What a classifier's config.json says beside its base's: labels, kind, and a padding token, without which Hugging
    Face takes no batches (the end of a document where the base has none)."""
    config = read_json(base / "config.json")
    pad = config.get("pad_token_id")
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "problem_type": SINGLE_LABEL,
        "pad_token_id": special_tokens(base, config).require_eos() if pad is None else pad,
    }


def write_whole_probe(folder: Path, base: Path, weight: NDArray[np.float32], labels: Sequence[str]) -> None:
    """The base's weights as they are stored, with `weight` [num_labels, hidden_size] as float32 `score`."""
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        str(base), dtype="auto", ignore_mismatched_sizes=True, **label_settings(base, labels)
    )
    model.score.weight = torch.nn.Parameter(torch.from_numpy(weight))
    write_whole(folder, model, base)


def write_whole(folder: Path, model: PreTrainedModel, base: Path) -> None:
    """A classifier's checkpoint with its base's tokenizer."""
    model.save_pretrained(folder, max_shard_size=SHARD_SIZE)
    for name in KEPT_FILES:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)
    path = folder / "tokenizer_config.json"
    tokenizer = read_json(path) if path.is_file() else {}
    if tokenizer.get("pad_token") is None:
        # transformers pads with this token, and looks for config.json's id when it reads a batch.
        tokenizer["pad_token"] = _token(base, model.config.pad_token_id)
        path.write_text(json.dumps(tokenizer, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_report(folder: Path, record: Mapping[str, Any], measured: Measurement, *, pictures: bool = True) -> None:
    """`metrics.json`, the tables, and the pictures."""
    (folder / "metrics.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    write_tables(folder, measured)
    if pictures:
        draw(folder, measured)


def write_card(
    folder: Path,
    *,
    name: str,
    base: Path,
    base_name: str,
    record: Mapping[str, Any],
    measured: Measurement,
    baselines: Mapping[str, Measurement],
) -> None:
    """README.md: what it is, how good it is, and how to use it."""
    card = read_card(base, name=base_name)
    front = {"license": card.licence, "base_model": base_name, "notice": card.notice}
    known = yaml.safe_dump({key: value for key, value in front.items() if value}, sort_keys=False, allow_unicode=True)
    rows = [
        f"| {title} | {figure(one.accuracy)} | {figure(one.macro_f1)} |"
        for title, one in ((name, measured), *baselines.items())
    ]
    kind = "a linear probe on the frozen base" if record["settings"]["method"] == "probe" else "LoRA and a head"
    whole = (folder / "config.json").is_file()
    use = [
        *([f"    python -m app --checkpoint {name}"] if whole else []),
        *([f'    AutoModelForSequenceClassification.from_pretrained("{name}")'] if whole else []),
        *([f'    engine.attach_head("{name}")    # beside chat, on the base'] if _has_head(folder) else []),
    ]
    (folder / "README.md").write_text(
        f"---\n{known}---\n\n# {name}\n\nTells {', '.join(record['labels'])} apart: {kind}, {base_name}, trained on "
        f"{sum(record['split']['train'].values()):,} texts. On {measured.count:,} texts it has not seen, with 95 % "
        "intervals:\n\n"
        "| | accuracy, % | macro-F1, % |\n| --- | ---: | ---: |\n" + "\n".join(rows) + "\n\n"
        "Each label's figures, the confusion matrix, calibration, settings and hashes: `metrics.json`.\n\n"
        + "\n".join(use)
        + "\n",
        encoding="utf-8",
    )


def figure(one: Figure) -> str:
    """In percent, with its interval."""
    if one.value is None or one.low is None or one.high is None:
        return "–"
    return f"{100 * one.value:.1f} ({100 * one.low:.1f} to {100 * one.high:.1f})"


def _has_head(folder: Path) -> bool:
    return (folder / "head.json").is_file()


def _token(base: Path, token_id: int) -> str:
    """What the tokenizer's own file calls an id."""
    import tokenizers

    path = base / "tokenizer.json"
    if path.is_file():
        return str(tokenizers.Tokenizer.from_file(str(path)).id_to_token(token_id))
    tokenizer = load_tokenizer(base, special_tokens(base, read_json(base / "config.json")))
    return tokenizer.token_bytes(token_id).decode()
