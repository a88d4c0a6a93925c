"""Which class runs which `model_type`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from model.checkpoint.errors import CheckpointError
from model.families.llama import LlamaForCausalLM
from model.families.mpt import MptForCausalLM
from model.families.persimmon import PersimmonForCausalLM

CausalLM: TypeAlias = PersimmonForCausalLM | MptForCausalLM | LlamaForCausalLM

FAMILIES: dict[str, type[CausalLM]] = {
    "persimmon": PersimmonForCausalLM,
    "mpt": MptForCausalLM,
    "llama": LlamaForCausalLM,
}


def family_class(config: Mapping[str, Any]) -> type[CausalLM]:
    """The class for a config.json's `model_type`.

    Raises:
        CheckpointError: the type is missing or not supported.
    """
    model_type = config.get("model_type")
    if model_type not in FAMILIES:
        raise CheckpointError(
            f"config.json has model_type={model_type!r}, which is not supported: use one of {', '.join(FAMILIES)}"
        )
    return FAMILIES[model_type]
