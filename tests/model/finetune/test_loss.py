"""A step of training against a plain loop over its documents, however its rows are dealt out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tiny_checkpoints import tiny_settings, write_examples
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from model.checkpoint.config_json import read_json
from model.families.registry import FAMILIES as CLASSES
from model.finetune import run
from model.finetune.documents import read_documents
from model.finetune.encode import DocumentEncoder, EncodedDocument
from model.finetune.loss_curve import LossCurve
from model.finetune.prepare_model import add_lora

pytestmark = [
    pytest.mark.usefixtures("no_pictures"),
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*is deprecated:FutureWarning"),
]

ROOT = Path(__file__).parents[3]
ROWS: list[dict[str, Any]] = [
    {"prompt": "What is the capital of France?", "answer": "Paris."},
    {"spans": [["The quick brown ", 0], ["fox ", 2.5], ["jumps over the lazy dog", 0.25]]},
    {"text": "def add(a, b):  return a + b"},
    {"messages": [{"role": role, "content": role} for role in ("system", "user", "assistant", "user", "assistant")]},
    {"prompt": "a", "answer": "größer"},
    {"text": "0123456789 0123456789 0123456789"},
    {"prompt": "The capital?", "answer": "The quick brown fox!"},
]
"""With prompt_weight=0.3 and row_length=90 they make up several rows with padding in every family."""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """Gradients of every step of the next run, by name."""
    found: list[dict[str, Tensor]] = []

    class Spy(LossCurve):
        def on_pre_optimizer_step(self, *args: Any, model: nn.Module, **unused: Any) -> None:
            found.append(
                {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
            )

    monkeypatch.setattr(run, "LossCurve", Spy)
    return found


def documents_of(checkpoint: Path, data: Path, prompt_weight: float) -> list[EncodedDocument]:
    config = read_json(checkpoint / "config.json")
    template = CLASSES[config["model_type"]].chat_template
    encoder = DocumentEncoder(checkpoint, config)
    return [encoder.encode(document) for document in read_documents(data, template, prompt_weight=prompt_weight)]


def plain_model(checkpoint: Path) -> nn.Module:
    """Hugging Face's model, eager, without dropout."""
    config = AutoConfig.from_pretrained(checkpoint)
    for key in ("hidden_dropout", "resid_pdrop", "emb_pdrop"):
        if hasattr(config, key):
            setattr(config, key, 0.0)
    model: nn.Module = AutoModelForCausalLM.from_pretrained(checkpoint, config=config, attn_implementation="eager")
    return model


def reference(model: nn.Module, documents: list[EncodedDocument]) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients, one document after the other."""
    total = sum(weight for document in documents for weight in document.weights)
    loss = torch.zeros(())
    for document in documents:
        ids = torch.tensor([document.token_ids])
        predicted = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0, :-1].float(), dim=-1)
        logprobs = predicted.gather(1, ids[0, 1:, None])[:, 0]
        loss = loss - (logprobs * torch.tensor(document.weights[1:])).sum() / total
    loss.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return loss.item(), gradients


def assert_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    scale = max(gradient.abs().max().item() for gradient in expected.values())
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max() <= 2e-6 * max(scale, 1.0), name


@pytest.mark.slow
@pytest.mark.parametrize(("rows_at_once", "checkpointed"), [(1, False), (2, True), (8, False)])
def test_a_step_is_the_weighted_mean_over_its_documents(
    family: str,
    rows_at_once: int,
    checkpointed: bool,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    steps: list[dict[str, Tensor]],
) -> None:
    settings = tiny_settings(
        checkpoints[family],
        tmp_path,
        data=write_examples(tmp_path / "rows.jsonl", ROWS),
        prompt_weight=0.3,
        row_length=90,
        rows_per_step=8,
        rows_at_once=rows_at_once,
        gradient_checkpointing=checkpointed,
        max_grad_norm=1e9,
    )
    result = run.finetune(settings)
    documents = documents_of(checkpoints[family], settings.data, 0.3)
    record = json.loads((settings.output / "finetune.json").read_text())
    assert 1 < record["data"]["rows"] <= 8
    loss, gradients = reference(plain_model(checkpoints[family]), documents)
    (found,) = steps
    assert_same(found, gradients)
    assert result.final_loss == pytest.approx(loss, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "checkpointed"), [("persimmon", True), ("mpt", True), ("llama", False)])
def test_the_same_with_lora(
    family: str, checkpointed: bool, checkpoints: dict[str, Path], tmp_path: Path, steps: list[dict[str, Tensor]]
) -> None:
    settings = tiny_settings(
        checkpoints[family],
        tmp_path,
        data=write_examples(tmp_path / "rows.jsonl", ROWS),
        method="lora",
        prompt_weight=0.3,
        row_length=90,
        rows_per_step=8,
        gradient_checkpointing=checkpointed,
        max_grad_norm=1e9,
    )
    run.finetune(settings)
    torch.manual_seed(settings.seed)
    model = add_lora(plain_model(checkpoints[family]), settings)
    _, gradients = reference(model, documents_of(checkpoints[family], settings.data, 0.3))
    (found,) = steps
    assert all("lora_" in name for name in gradients)
    assert any(gradient.abs().max() > 0 for gradient in gradients.values())
    assert_same(found, gradients)


def test_an_epoch_may_end_with_fewer_rows(
    checkpoints: dict[str, Path], tmp_path: Path, steps: list[dict[str, Tensor]]
) -> None:
    """The last step of an epoch counts its own rows only."""
    rows = [{"text": f"q w e r t y u i o p {number}"} for number in range(3)]  # each has a row for itself
    settings = tiny_settings(
        checkpoints["llama"],
        tmp_path,
        data=write_examples(tmp_path / "rows.jsonl", rows),
        row_length=32,
        rows_per_step=2,
        rows_at_once=2,
        shuffle=False,
        max_grad_norm=1e9,
        learning_rate=1e-12,
    )
    run.finetune(settings)
    documents = documents_of(checkpoints["llama"], settings.data, 0.0)
    for found, chosen in zip(steps, (documents[:2], documents[2:]), strict=True):
        _, gradients = reference(plain_model(checkpoints["llama"]), chosen)
        assert_same(found, gradients)


def train_with_processes(processes: int, checkpoint: Path, folder: Path, *options: str) -> Path:
    """Train with the command line, in one or several processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    output = folder / f"tuned-{processes}"
    chosen = ["--device=cpu", "--dtype=float32", "--log-every=1", "--row-length=32", "--no-gradient-checkpointing"]
    command = [*launcher, "-m", "model.finetune", f"--checkpoint={checkpoint}", f"--output={output}", *chosen, *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=True, capture_output=True)
    return output


@pytest.mark.slow
def test_two_processes_do_what_one_does(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Seven rows by four: both processes' last batches are filled up with rows that must not count twice."""
    rows = [{"text": f"q w e r t y u i o p {number}"} for number in range(7)]
    data = write_examples(tmp_path / "rows.jsonl", rows)
    validation = write_examples(tmp_path / "validation.jsonl", rows[:3])
    folders = [
        train_with_processes(
            processes,
            checkpoints["llama"],
            tmp_path,
            f"--data={data}",
            f"--validation={validation}",
            "--method=full",
            "--rows-per-step=4",
            "--epochs=3",
            "--learning-rate=1e-2",
        )
        for processes in (1, 2)
    ]
    curves = [pd.read_csv(folder / "loss.csv") for folder in folders]
    assert len(curves[0]) == 6
    # The Trainer's epoch column counts the rows that fill up too.
    pd.testing.assert_frame_equal(*(curve.drop(columns="epoch") for curve in curves), rtol=1e-4)
    records = [json.loads((folder / "finetune.json").read_text()) for folder in folders]
    assert [record["processes"] for record in records] == [1, 2]
    assert records[0]["data"] == records[1]["data"]
    assert records[0]["validation_loss"] == pytest.approx(records[1]["validation_loss"], rel=1e-4)
    first, second = (load_file(folder / "model.safetensors") for folder in folders)
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name], rtol=2**-7, atol=1e-4)
