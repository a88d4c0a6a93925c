"""All cases of all modules: the gate, then the times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch

from kernels.bench import gate
from kernels.bench.results import Peer, Row
from kernels.gpu.cases import BenchCase

OUT_OF_TIME = "not reached within the time given"


class HasSeconds(Protocol):
    """What times a call; see `clock.Clock`."""

    def seconds(self, call: Callable[[], Any]) -> float: ...


def run(
    cases: Mapping[str, Sequence[BenchCase]],
    device: torch.device,
    dtype: torch.dtype,
    *,
    clock: HasSeconds | None,
    seconds: float | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Iterator[Row]:
    """A row for each case, as they are done.

    Args:
        cases: by module.
        clock: `None` compares results and times nothing.
        seconds: no case is begun after these.
    """
    begun = now()
    for module, of_module in cases.items():
        for case in of_module:
            if seconds is not None and now() - begun > seconds:
                yield Row(module=module, name=case.name, problem=OUT_OF_TIME)
            else:
                yield run_case(module, case, device, dtype, clock=clock)
            if device.type == "cuda":
                torch.cuda.empty_cache()  # the next case's tensors have other sizes


def run_case(
    module: str, case: BenchCase, device: torch.device, dtype: torch.dtype, *, clock: HasSeconds | None
) -> Row:
    """One case. What goes wrong in it stays in its row, since a kernel that fails says nothing of the next."""
    row = Row(module=module, name=case.name)
    try:
        row = replace(row, largest_difference=gate.check(case, device, dtype))
        if clock is None:
            return row
        call = case.make(device, dtype)
        return replace(
            row,
            seconds=clock.seconds(call.kernel),
            reference_seconds=clock.seconds(call.reference),
            num_bytes=call.num_bytes,
            num_flops=call.num_flops,
            peers=tuple(_peer(name, case, device, dtype, clock) for name in case.peers),
        )
    except gate.ResultsDiffer as error:
        return replace(row, problem=f"refused: {error}")
    except Exception as error:  # whatever a launch, a compiler or the memory has to say
        return replace(row, problem=_said(error))


def _peer(name: str, case: BenchCase, device: torch.device, dtype: torch.dtype, clock: HasSeconds) -> Peer:
    try:
        gate.check_peer(case, case.peers[name](device, dtype), device, dtype)
        return Peer(name=name, seconds=clock.seconds(case.peers[name](device, dtype)))
    except gate.ResultsDiffer as error:
        return Peer(name=name, seconds=None, problem=f"gives something else: {error}")
    except Exception as error:  # such as a library that is not installed
        return Peer(name=name, seconds=None, problem=_said(error))


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"failed: {type(error).__name__}: {lines[0] if lines else 'no message'}"
