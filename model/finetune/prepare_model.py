"""Load a checkpoint as Hugging Face's model, ready to be trained."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from model.checkpoint.classifier import is_classifier
from model.checkpoint.config_json import read_json
from model.checkpoint.errors import CheckpointError
from model.checkpoint.load import build_model
from model.checkpoint.weight_files import read_entries
from model.families.mpt import DEFAULT_ALIBI_BIAS_MAX, MptConfig
from model.families.registry import CausalLM
from model.finetune.attention import MATMUL_ATTENTION
from model.finetune.settings import FinetuneSettings, SettingsError

DROPOUT_KEYS = ("hidden_dropout", "attention_dropout", "resid_pdrop", "emb_pdrop")
ADAM_BYTES, ADAFACTOR_BYTES, WEIGHT_BYTES = 8, 0, 4
"""Bytes a trained parameter: AdamW's two moments, Adafactor's (one number a row and a column), the weight itself."""


def load_for_training(folder: Path, settings: FinetuneSettings, device: torch.device) -> PreTrainedModel:
    """The model of `folder` with float32 weights (`full`), or in `settings.dtype` with LoRA's matrices beside it.

    Dropout is off whatever config.json says: that of adept/persimmon-8b-base has a stray hidden_dropout of 0.6.

    Raises:
        CheckpointError: the files are wrong, or Hugging Face's class computes something else than they mean.
        SettingsError: it does not fit on the GPU.
    """
    config = read_json(folder / "config.json")
    if is_classifier(config):
        raise CheckpointError(f"{folder} has a classification head and no language model's: give its base")
    ours, hf_config = config_for_training(folder, row_length=settings.row_length)
    _check_memory(sum(parameter.numel() for parameter in ours.parameters()), settings, device)
    full = settings.method == "full"
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        str(folder),
        config=hf_config,
        dtype=torch.float32 if full or settings.dtype == "float32" else torch.bfloat16,
        attn_implementation=attention_for(hf_config.model_type, device),
    )
    return model


def config_for_training(folder: Path, *, row_length: int) -> tuple[CausalLM, Any]:
    """Our model of `folder` without memory, and Hugging Face's config for it, with dropout off.

    Raises:
        CheckpointError: the files are wrong, or Hugging Face's class computes something else than they mean.
        SettingsError: it cannot take rows of `row_length` tokens.
    """
    # Hugging Face fills what a file lacks with random numbers; our loader names it.
    ours, _ = build_model(
        folder, read_json(folder / "config.json"), read_entries(folder), rope_position_dtype=torch.float32
    )
    if isinstance(ours.config, MptConfig):
        _refuse_what_hugging_face_ignores(ours.config, row_length)
    hf_config = AutoConfig.from_pretrained(str(folder))
    hf_config.vocab_size = ours.config.vocab_size
    for key in DROPOUT_KEYS:
        if hasattr(hf_config, key):
            setattr(hf_config, key, 0.0)
    if hasattr(hf_config, "attn_config"):
        hf_config.attn_config.attn_pdrop = 0  # an integer: transformers 5 rejects a float
    return ours, hf_config


def add_lora(model: PreTrainedModel, settings: FinetuneSettings) -> PeftModel:
    """`model` frozen, with trainable matrices of rank `lora_rank` (float32) beside every linear layer but the head."""
    adapter = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    adapted: PeftModel = get_peft_model(model, adapter)
    return adapted


def attention_for(family: str, device: torch.device) -> str:
    """The attention to train with: MPT has only `eager` in transformers; on a CPU ours is faster than torch's."""
    if family == "mpt":
        return "eager"
    return MATMUL_ATTENTION if device.type == "cpu" else "sdpa"


def takes_positions(model: PreTrainedModel) -> bool:
    """Whether the model's forward has `position_ids`."""
    return "position_ids" in inspect.signature(model.forward).parameters


def _refuse_what_hugging_face_ignores(known: MptConfig, row_length: int) -> None:
    for name, holds in (
        ("alibi", known.alibi_bias_max is not None),
        ("alibi_bias_max", known.alibi_bias_max == DEFAULT_ALIBI_BIAS_MAX),
        ("qk_ln", not known.qk_ln),
        ("no_bias", not known.bias),
        ("learned_pos_emb", not known.learned_positions),
        ("logit_scale", known.logit_scale == 1.0),
        ("expansion_ratio", known.intermediate_size == 4 * known.hidden_size),
    ):
        if not holds:
            raise CheckpointError(
                f"config.json sets {name}, which Hugging Face's MPT class ignores, so another model would be trained: "
                "only MPT-7B's own choice can be"
            )
    if row_length > known.max_seq_len:
        raise SettingsError(
            f"row_length={row_length} is not allowed: Hugging Face's MPT class takes at most "
            f"max_seq_len={known.max_seq_len} of config.json"
        )


def _check_memory(num_parameters: int, settings: FinetuneSettings, device: torch.device) -> None:
    if device.type != "cuda" or settings.method == "lora":
        return
    state = ADAFACTOR_BYTES if settings.optimizer == "adafactor" else ADAM_BYTES
    needed = num_parameters * (2 * WEIGHT_BYTES + state)
    there = torch.cuda.get_device_properties(device).total_memory
    if needed > there:
        raise SettingsError(
            f"method='full' is not possible here: weights, gradients and the state of optimizer={settings.optimizer!r} "
            f"need {needed / 1e9:.0f} GB and the GPU has {there / 1e9:.0f} GB: use method=lora, or optimizer=adafactor "
            "if that is enough"
        )
