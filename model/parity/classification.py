"""Classification heads: our logits and losses against Hugging Face's `...ForSequenceClassification`, on the CPU."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from model.checkpoint.classifier import PROBLEM_TYPES, read_own_head
from model.checkpoint.config_json import read_json
from model.checkpoint.errors import CheckpointError
from model.checkpoint.load import load_model
from model.checkpoint.weight_files import read_entries
from model.layers.classification_loss import classification_loss
from model.parity.compare import CPU, Error
from model.parity.our_forward import our_hidden_states
from model.parity.random_checkpoint import VOCAB_SIZE
from model.parity.random_classifier import FAMILIES, save_random_classifier

SECTION = "Sequence classification"
ROW_LENGTHS = (1, 5, 16, 17, 41, 60)  # tokens
PAD_TOKEN_ID = 7


@dataclass(frozen=True, slots=True)
class Setting:
    """What a row of the page is about.

    Attributes:
        problem_type: as config.json has it; num_labels: rows of `score`.
        padded: the side on which Hugging Face's batch is padded; `None`: there is no pad_token_id, and it takes one
            text at a time.
    """

    name: str
    problem_type: str
    num_labels: int
    padded: str | None


SETTINGS = (
    Setting("single label, no pad_token_id", "single_label_classification", 5, None),
    Setting("single label, padded right", "single_label_classification", 5, "right"),
    Setting("single label, padded left", "single_label_classification", 2, "left"),
    Setting("multi label, no pad_token_id", "multi_label_classification", 4, None),
    Setting("multi label, padded right", "multi_label_classification", 4, "right"),
    Setting("regression, no pad_token_id", "regression", 1, None),
    Setting("regression, padded left", "regression", 1, "left"),
    Setting("regression of three, padded right", "regression", 3, "right"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierCase:
    """A comparison, a row of the page; `family` is a config.json's `model_type`."""

    family: str
    setting: Setting

    @property
    def section(self) -> str:
        """The heading of the page under which the row stands."""
        return SECTION

    @property
    def name(self) -> str:
        """Unique in its section."""
        return f"{self.family}: {self.setting.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierComparison:
    """Ours against Hugging Face's, both in float32.

    Attributes:
        std: of Hugging Face's logits, for scale.
        float32: error of our logits.
        loss: Hugging Face's, of the whole batch, in nats, or squared units for regression; `loss_error`: of our
            definition (`model.layers.classification_loss`) on our logits.
    """

    case: ClassifierCase
    std: float
    float32: Error
    loss: float
    loss_error: float


def classifier_cases() -> list[ClassifierCase]:
    """Every row, by family."""
    return [ClassifierCase(family=family, setting=setting) for family, setting in itertools.product(FAMILIES, SETTINGS)]


def compare_classifier(case: ClassifierCase, folder: Path) -> ClassifierComparison:
    """Make a random checkpoint in the empty `folder`, load, run and compare.

    Raises:
        CheckpointError: our loader refuses it.
    """
    setting = case.setting
    save_random_classifier(
        folder,
        case.family,
        num_labels=setting.num_labels,
        problem_type=setting.problem_type,
        pad_token_id=None if setting.padded is None else PAD_TOKEN_ID,
    )
    rows, targets = random_rows(), random_targets(setting)
    expected, expected_loss = _hugging_face(folder, rows, targets, setting.padded)
    ours = our_class_logits(folder, rows)
    loss = classification_loss(ours, targets, problem_type=PROBLEM_TYPES[setting.problem_type])
    return ClassifierComparison(
        case=case,
        std=float(expected.double().std()),
        float32=Error.between(ours, expected),
        loss=expected_loss,
        loss_error=abs(float(loss) - expected_loss),
    )


def our_class_logits(folder: Path, rows: Sequence[list[int]]) -> Tensor:
    """[rows, num_labels] float32 of a classifier's folder, through the engine's loop.

    Raises:
        CheckpointError: the folder holds no classifier.
    """
    model = load_model(folder, device=CPU, dtype=torch.float32)
    head = read_own_head(
        read_json(folder / "config.json"),
        read_entries(folder),
        folder=folder,
        name=folder.name,
        hidden_size=model.config.hidden_size,
    )
    if head is None:
        raise CheckpointError(f"{folder} holds no classifier: give one of ...ForSequenceClassification")
    return torch.stack([torch.from_numpy(row) for row in head.logits(our_hidden_states(model, rows))])


def random_rows() -> list[list[int]]:
    """The same random token ids for everybody, none of them PAD_TOKEN_ID."""
    generator = torch.Generator().manual_seed(9)
    return [torch.randint(PAD_TOKEN_ID + 1, VOCAB_SIZE, (n,), generator=generator).tolist() for n in ROW_LENGTHS]


def random_targets(setting: Setting) -> Tensor:
    """What the rows should have given, as `classification_loss` takes it."""
    generator = torch.Generator().manual_seed(13)
    count = len(ROW_LENGTHS)
    if setting.problem_type == "single_label_classification":
        return torch.randint(setting.num_labels, (count,), generator=generator)
    if setting.problem_type == "multi_label_classification":
        return torch.randint(2, (count, setting.num_labels), generator=generator).float()
    return torch.randn(count, setting.num_labels, generator=generator)


@torch.inference_mode()
def _hugging_face(folder: Path, rows: Sequence[list[int]], targets: Tensor, padded: str | None) -> tuple[Tensor, float]:
    """[rows, num_labels] float32 and the loss: of the padded batch, or of the rows one by one."""
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    ).eval()
    if padded is None:
        outputs = [model(torch.tensor([row]), labels=targets[index : index + 1]) for index, row in enumerate(rows)]
    else:
        longest = max(map(len, rows))
        fill = [[PAD_TOKEN_ID] * (longest - len(row)) for row in rows]
        ids = [row + pad if padded == "right" else pad + row for row, pad in zip(rows, fill, strict=True)]
        input_ids = torch.tensor(ids)
        outputs = [model(input_ids, attention_mask=(input_ids != PAD_TOKEN_ID).long(), labels=targets)]
    logits = torch.cat([output.logits for output in outputs]).float()
    return logits, sum(float(output.loss) for output in outputs) / len(outputs)
