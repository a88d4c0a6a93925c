"""Whether a kernel's results are its reference's: the condition of every figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from kernels.gpu.cases import BenchCase


class ResultsDiffer(Exception):
    """A kernel did not give what its reference gives, so there is nothing to time."""


def check(case: BenchCase, device: torch.device, dtype: torch.dtype) -> float:
    """Compare a case's kernel with its reference, and with itself.

    Tensors are made anew for each call, since a kernel may write into its arguments.

    Returns:
        The largest absolute difference.

    Raises:
        ResultsDiffer: a difference is over the case's bounds, or a second call gave other bits.
    """
    expected = tensors(case.make(device, dtype).reference())
    found = tensors(case.make(device, dtype).kernel())
    largest = compare(found, expected, absolute=case.absolute, relative=case.relative)
    again = tensors(case.make(device, dtype).kernel())
    if not all(torch.equal(one, other) for one, other in zip(found, again, strict=True)):
        raise ResultsDiffer("a second call with the same tensors gave other bits")
    return largest


def check_peer(case: BenchCase, peer: Callable[[], Any], device: torch.device, dtype: torch.dtype) -> None:
    """Compare what a peer gives with the case's reference.

    Raises:
        ResultsDiffer: it is something else, so that its time says nothing.
    """
    expected = tensors(case.make(device, dtype).reference())
    compare(tensors(peer()), expected, absolute=case.absolute, relative=case.relative)


def compare(found: Sequence[Tensor], expected: Sequence[Tensor], *, absolute: float, relative: float) -> float:
    """The largest absolute difference of results that are within the bounds.

    Raises:
        ResultsDiffer: they are not; the text says where.
    """
    if len(found) != len(expected):
        raise ResultsDiffer(f"{len(found)} results instead of {len(expected)}")
    largest = 0.0
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        try:
            torch.testing.assert_close(one, other, atol=absolute, rtol=relative)
        except AssertionError as error:
            raise ResultsDiffer(f"result {number}: {' '.join(str(error).split())}") from None
        if one.numel():
            largest = max(largest, float((one.double() - other.double()).abs().max()))
    return largest


def tensors(result: Any) -> tuple[Tensor, ...]:
    """A result as its tensors; `None` among several is left out."""
    if isinstance(result, Tensor):
        return (result,)
    return tuple(each for each in result if each is not None)
