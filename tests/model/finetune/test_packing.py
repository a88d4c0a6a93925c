"""Packed rows: nothing is lost, cut or moved, and Hugging Face's models compute what they do for a document alone."""

from __future__ import annotations

from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, PreTrainedModel

from model.finetune.attention import MATMUL_ATTENTION
from model.finetune.encode import EncodedDocument
from model.finetune.packing import attention_bias, collate, pack
from model.finetune.prepare_model import attention_for, takes_positions
from model.parity.random_checkpoint import VOCAB_SIZE, save_random_llama, save_random_mpt, save_random_persimmon

ROW_LENGTH = 12


def documents_of(lengths: list[int]) -> list[EncodedDocument]:
    """Documents whose tokens say which document and which place they are from."""
    return [
        EncodedDocument([100 * number + at for at in range(length)], [0.0, *([number + 0.5] * (length - 1))])
        for number, length in enumerate(lengths)
    ]


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, ROW_LENGTH), max_size=120))
def test_every_document_is_in_one_row_uncut_and_in_order(lengths: list[int]) -> None:
    documents = documents_of(lengths)
    rows = list(pack(documents, ROW_LENGTH))
    seen = []
    for row in rows:
        assert 0 < sum(row.lengths) == len(row.token_ids) == len(row.weights) <= ROW_LENGTH
        for start, end in pairwise([0, *accumulate(row.lengths)]):
            number = row.token_ids[start] // 100
            assert EncodedDocument(row.token_ids[start:end], row.weights[start:end]) == documents[number]
            seen.append(number)
        order = [row.token_ids[start] // 100 for start in [0, *accumulate(row.lengths)][:-1]]
        assert order == sorted(order)
    assert sorted(seen) == list(range(len(lengths)))
    assert list(pack(documents, ROW_LENGTH)) == rows


def test_rows_are_filled() -> None:
    lengths = torch.randint(1, 60, (2000,), generator=torch.Generator().manual_seed(0)).tolist()
    rows = list(pack(documents_of(lengths), 320))
    assert sum(lengths) / (320 * len(rows)) > 0.97


def test_a_batch() -> None:
    (first,) = pack(documents_of([3, 2]), ROW_LENGTH)
    (second,) = pack(documents_of([4]), ROW_LENGTH)
    batch = collate([vars_of(first), vars_of(second)], pad_id=9)
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[0, 1, 2, 100, 101], [0, 1, 2, 3, 9]],
        "weights": [[0.0, 0.5, 0.5, 0.0, 1.5], [0.0, 0.5, 0.5, 0.5, 0.0]],
        "position_ids": [[0, 1, 2, 0, 1], [0, 1, 2, 3, 0]],
        "document_ids": [[0, 0, 0, 1, 1], [0, 0, 0, 0, -5]],
    }
    seen = attention_bias(batch["document_ids"], torch.bfloat16)[:, 0] == 0
    assert seen.int().tolist() == [
        [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]],
        [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 1]],
    ]


def vars_of(row: Any) -> dict[str, Any]:
    """A row as the dataset gives it back."""
    return {name: getattr(row, name) for name in ("token_ids", "weights", "lengths")}


MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "persimmon": (save_random_persimmon, {"hidden_dropout": 0.0}),
    "persimmon, partly rotary": (
        save_random_persimmon,
        {
            "num_attention_heads": 3,
            "rope_parameters": {"rope_type": "default", "rope_theta": 25000.0, "partial_rotary_factor": 0.25},
        },
    ),
    "llama": (save_random_llama, {}),
    "llama, grouped": (save_random_llama, {"num_key_value_heads": 2}),
    "mpt": (save_random_mpt, {}),
    "mpt, six heads": (save_random_mpt, {"n_heads": 6}),
}
CASES = [
    (name, attention)
    for name in MODELS
    for attention in ("training", "sdpa")
    if attention == "training" or name[0] != "m"
]


@pytest.mark.parametrize(("name", "attention"), CASES, ids=[" ".join(case) for case in CASES])
@torch.no_grad()
def test_packed_equals_alone(name: str, attention: str, tmp_path: Path) -> None:
    save, changes = MODELS[name]
    save(tmp_path, **changes)
    chosen = attention_for(name.split(",")[0], torch.device("cpu")) if attention == "training" else attention
    assert chosen == {"sdpa": "sdpa", "training": "eager" if name.startswith("mpt") else MATMUL_ATTENTION}[attention]
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation=chosen)
    alone: PreTrainedModel = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    lengths = [17, 5, 23, 9, 1, 30, 12]
    generator = torch.Generator().manual_seed(1)
    documents = [
        EncodedDocument(torch.randint(0, VOCAB_SIZE, (length,), generator=generator).tolist(), [1.0] * length)
        for length in lengths
    ]
    rows = list(pack(documents, 60))
    assert sorted(len(row.lengths) for row in rows) == [2, 5]
    batch = collate([vars_of(row) for row in rows], pad_id=0)
    positions = {"position_ids": batch["position_ids"]} if takes_positions(model) else {}
    bias = attention_bias(batch["document_ids"], torch.float32)
    packed = model(input_ids=batch["input_ids"], attention_mask=bias, use_cache=False, **positions).logits
    assert packed.std() > 0.5, "weights too small for the comparison to mean anything"
    assert packed.isfinite().all()
    for number, row in enumerate(rows):
        for start, end in pairwise([0, *accumulate(row.lengths)]):
            expected = alone(torch.tensor([row.token_ids[start:end]])).logits[0]
            assert (packed[number, start:end] - expected).abs().max() <= 1e-5 * expected.abs().max()
