"""What a section is given, and how it says that it cannot be measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evals.bench_engine.results import Figure, Section
from evals.bench_engine.sizes import Sizes
from evals.errors import EvaluationError

if TYPE_CHECKING:
    import torch

    from model.speed.steps import GraphBackend


class Absent(EvaluationError):
    """What is to be measured is not here: no GPU, no such function in this version of a library."""


class GateFailed(EvaluationError):
    """Results are not what they must be, so nothing is timed."""


@dataclass(kw_only=True)
class Bench:
    """What a section is given.

    Attributes:
        section: its name. model: whose weights, such as `persimmon-8b`.
        earlier: sections that were measured before, by name.
        kept: what sections of one process share, such as an opened engine.
        backend: what captures steps; `None` where nothing does.
    """

    section: str
    model: str
    sizes: Sizes
    device: torch.device
    dtype: torch.dtype
    kernels: str
    backend: GraphBackend | None
    earlier: Mapping[str, Section]
    record: Callable[[Figure], None]
    kept: dict[str, Any] = field(default_factory=dict)

    def say(self, name: str, value: float | None, unit: str, **rest: Any) -> None:
        """Write a figure down; a number that is not finite is none."""
        if value is not None and not math.isfinite(value):
            value, rest["problem"] = None, f"it is {value}"
        self.record(Figure(name=name, value=value, unit=unit, **rest))

    def copy_bytes_per_s(self) -> float:
        """As measured in this run."""
        return self._roof("copy")

    def product_flops_per_s(self) -> float:
        """As measured in this run."""
        return self._roof("product")

    def _roof(self, name: str) -> float:
        found = self.earlier["roofs"].figure(name)
        assert found is not None
        assert found.value is not None
        return found.value
