"""Which parameters move how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer
from transformers import Adafactor

from model.finetune.settings import FinetuneSettings

ADAM_BETAS = (0.9, 0.95)  # GPT-3 (arXiv:2005.14165, appendix B), since then the usual pair for language models


class MuonWithAdamW(Optimizer):
    """Muon (Jordan 2024) for `matrices`, AdamW for the groups of `others`, behind one optimizer's interface.

    Args:
        matrices: Muon's parameter groups, of 2-dimensional parameters inside the layers; peaks in AdamW's units
            (`match_rms_adamw`).
        others: AdamW's parameter groups; may be empty.
    """

    def __init__(self, matrices: list[dict[str, Any]], *, others: list[dict[str, Any]]) -> None:
        muon = Muon(matrices, adjust_lr_fn="match_rms_adamw")
        self._parts: list[Optimizer] = [muon]
        if others:
            self._parts.append(AdamW(others, betas=ADAM_BETAS, weight_decay=0.0))
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._join()

    def _join(self) -> None:
        # The very dictionaries of the parts: a scheduler that sets a rate here sets it there.
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        if closure is not None:
            raise ValueError("closure is not supported: compute the gradients before step()")
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self._parts], "state": {}, "param_groups": []}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, saved in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(saved)
        self._join()


def make_optimizer(model: nn.Module, settings: FinetuneSettings) -> Optimizer:
    """The optimizer for all parameters of `model` that are trained."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    rates = {name: _learning_rate(name, settings, settings.peak_learning_rate) for name in trained}
    if settings.optimizer == "muon":
        inside = _layer_matrices(model, trained)
        rates |= {name: _learning_rate(name, settings, settings.matrix_learning_rate) for name in inside}
        others = {name: parameter for name, parameter in trained.items() if name not in inside}
        return MuonWithAdamW(
            _groups(inside, rates, dict.fromkeys(inside, settings.weight_decay)), others=_groups(others, rates, {})
        )
    decays = {name: settings.weight_decay for name, parameter in trained.items() if parameter.ndim == 2}
    groups = _groups(trained, rates, decays)
    if settings.optimizer == "adafactor":
        adafactor: Optimizer = Adafactor(groups, scale_parameter=False, relative_step=False, warmup_init=False)
        return adafactor
    return AdamW(groups, betas=ADAM_BETAS)


def _layer_matrices(model: nn.Module, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The matrices but embedding and head: Muon is made for those from hidden states to hidden states."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return {
        name: parameter
        for name, parameter in trained.items()
        if parameter.ndim == 2 and id(parameter) not in embeddings and not name.endswith("lm_head.weight")
    }


def _learning_rate(name: str, settings: FinetuneSettings, otherwise: float) -> float:
    for part, rate in settings.learning_rate_of.items():
        if part in name:
            return rate
    return otherwise


def _groups(
    parameters: Mapping[str, Tensor], rates: Mapping[str, float], decays: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Parameters with one learning rate and one weight decay together."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in parameters.items():
        groups.setdefault((rates[name], decays.get(name, 0.0)), []).append(parameter)
    return [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()]
